"""Tables are functions of records: what is installed, and in which order records come, changes none of them."""

import random
from collections.abc import Iterator
from dataclasses import make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from attacks import ATTACKS
from attacks.clean import Clean
from benchmark.core.errors import UsageError
from benchmark.core.registry import Registry
from benchmark.grid.records import EpochScores, Record, load_records
from benchmark.metrics import Retrieval, RetrievalScores
from benchmark.tables import TABLES
from benchmark.tables.make import _MAKERS, make_tables
from benchmark.tables.published import paper_defenses
from benchmark.tables.render import render
from benchmark.tables.selection import blocks
from benchmark.tables.table import _SCORES, measure
from defenses import DEFENSES, Defense
from tests.tables.factory import record, signed

RECORDS = Path("results/tiny/records")


def texts(records: list[Record]) -> dict[str, str]:
    """All tables of one victim, and those beside the paper."""
    tables = {name: make_tables(name, records) for name in TABLES if name != "transfer"}
    tables |= {f"{name} beside paper": make_tables(name, records, beside_paper=True) for name in ("1", "2")}
    return {f"{name}, {style}": render(made, style) for name, made in tables.items() for style in ("markdown", "json")}


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return load_records(RECORDS)


@pytest.fixture
def plugins() -> Iterator[None]:
    """A defense in front of all others and in the group of the paper's, and an attack in front of all others."""

    class Extra(Defense):
        """A defense of somebody else."""

    class Poisoned(Clean):
        """An attack of somebody else."""

    DEFENSES.register("aaa-plugin", groups=("table2",), order=-1)(Extra)
    ATTACKS.register("aaa-plugin", order=-1)(Poisoned)
    try:
        yield
    finally:
        for registry in (DEFENSES, ATTACKS):
            del registry._entries["aaa-plugin"]


@pytest.fixture(scope="module")
def before(records: list[Record]) -> dict[str, str]:
    return texts(records)


def test_a_plugin_changes_no_table(before: dict[str, str], records: list[Record], plugins: None) -> None:
    assert "aaa-plugin" in DEFENSES.group("table2")
    assert texts(records) == before


def test_no_table_asks_a_registry(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("a table asked a registry")

    for method in ("_load", "entries", "entry", "group", "groups"):
        monkeypatch.setattr(Registry, method, refuse)
    assert texts(records)


def test_the_papers_defenses_are_the_suites_group() -> None:
    assert paper_defenses() == DEFENSES.group("table2")


def test_every_name_has_its_function() -> None:
    assert set(_MAKERS) == set(TABLES)


def test_the_order_of_records_changes_no_table(before: dict[str, str], records: list[Record]) -> None:
    shuffled = random.Random(0).sample(records, len(records))
    assert texts(shuffled) == before


def test_records_from_before_a_score_was_added_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its column is empty for them; a value that is no number is refused as elsewhere."""
    added = make_dataclass("Added", [("recall_at_20", float | None, None)], bases=(RetrievalScores,), frozen=True)
    file, data = tmp_path / "old.json", record().content()
    file.write_text(signed(data), "utf-8")
    monkeypatch.setitem(Retrieval.__annotations__, "image_to_text", added)
    for kind in (Retrieval, EpochScores, Record):  # the reader keeps what it knows of a class there
        monkeypatch.delattr(kind, "__msgspec_cache__", raising=False)
    monkeypatch.setitem(_SCORES, "R@20", ("recall_at_20", "%"))  # type: ignore[misc]
    column = measure("R@20", "I→T")  # type: ignore[arg-type]
    assert [column.of(old) for old in load_records(tmp_path)] == [None]
    for value in (34.5, "34.5"):
        data["epochs"]["test"]["image_to_text"]["recall_at_20"] = [value] * len(data["epochs"]["epoch"])
        file.write_text(signed(data), "utf-8")
        if isinstance(value, float):
            assert [column.of(new) for new in load_records(tmp_path)] == [34.5]
        else:
            with pytest.raises(UsageError, match="recall_at_20: Expected `float"):
                load_records(tmp_path)


def test_a_failed_cell_that_was_mended_and_run_again_counts_nowhere() -> None:
    done, failed = record("em", params={"eps": 8}), record("em", params={"eps": 4}, failed="no memory")
    for members in ([done, failed], [failed, done]):
        (block,) = blocks(members)
        assert block.records == (done,)
    with pytest.raises(UsageError, match="records mix settings of attack em: eps="):
        blocks([done, replace(failed, seed=2)])

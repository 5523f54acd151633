"""The table of transfer against hand-worked numbers."""

from typing import Any

import pytest

from benchmark.core.errors import UsageError
from benchmark.tables.make import make_tables
from benchmark.tables.render import render
from tests.tables.factory import record, value


def test_rows_are_surrogates_and_columns_victims() -> None:
    numbers = {("tiny", "tiny"): 5.0, ("tiny", "RN50"): 20.0, ("RN50", "tiny"): 30.0}
    trained = {"loss_per_round": [4.8, 2.0]}
    records = [
        record("mem3", recalls=(n, n + 1), surrogate=surrogate, victim=victim, poison=trained)
        for (surrogate, victim), n in numbers.items()
    ]
    records += [record("clean", recalls=(50, 60)), record("clean", recalls=(70, 80), victim="RN50")]
    records += [record("mem3", "cutout", recalls=(99, 99))]
    (table,) = make_tables("transfer", records)
    assert table.rows == ("Clean", "from RN50", "from tiny")
    assert list(table.columns) == [f"{victim} R@10 {way}" for victim in ("RN50", "tiny") for way in ("I→T", "T→I")]
    assert (value(table, "from tiny", "RN50 R@10 I→T"), value(table, "from tiny", "RN50 R@10 T→I")) == (20, 21)
    assert value(table, "from RN50", "tiny R@10 I→T") == 30
    assert value(table, "from tiny", "tiny R@10 I→T") == 5
    assert value(table, "Clean", "RN50 R@10 T→I") == 80
    assert value(table, "from tiny", "tiny Medr I→T") == 150  # for CSV and JSON
    line = next(line for line in render([table], "markdown").split("\n") if line.startswith("| from RN50"))
    assert [part.strip() for part in line.strip("|").split("|")][1:] == ["–", "–", "30.0", "31.0"]
    notes = "\n".join(table.notes)
    assert "Victim: tiny;" in notes
    assert "Victim: RN50;" in notes
    assert "surrogate RN50 or tiny" in notes


def test_poisons_of_two_surrogates_count_each() -> None:
    records = [
        record("mem3", surrogate=surrogate, seconds={"craft": craft, "train": 1, "evaluate": 1})
        for surrogate, craft in (("tiny", 100.0), ("RN50", 300.0))
    ]
    (table,) = make_tables("transfer", records)
    assert "craft 200 s (100 to 300) a poison" in "\n".join(table.notes)


def test_victims_of_other_seeds_and_failed_ones_are_told() -> None:
    records = [record("mem3", seed=seed) for seed in (1, 2)]
    records += [record("mem3", victim="RN50"), record("mem3", seed=2, victim="RN50", failed="boom")]
    (table,) = make_tables("transfer", records)
    assert "Seeds done: from tiny × RN50 1; from tiny × tiny 1–2." in table.notes
    assert any(note.startswith("Failed: MEM-3 × None × RN50, seed 2: boom") for note in table.notes)
    (table,) = make_tables("transfer", records[:1] + records[2:3])
    assert not any(note.startswith("Seeds done") for note in table.notes)
    # After a plug-in was mended, its cell has another address.
    (table,) = make_tables("transfer", [*records, record("mem3", seed=2, victim="RN50", key="mended")])
    assert not any(note.startswith("Failed") for note in table.notes)


def test_one_surrogate_and_one_victim_transfer_nothing() -> None:
    with pytest.raises(UsageError, match="two surrogates or two victims"):
        make_tables("transfer", [record("clean"), record("mem3"), record("em")])


def test_other_settings_than_the_surrogate_are_not_mixed() -> None:
    records = [record("mem3"), record("mem3", victim="RN50"), record("mem3", seed=2, params={"rounds": 20})]
    with pytest.raises(UsageError, match="rounds=6 and rounds=20"):
        make_tables("transfer", records)


@pytest.mark.parametrize("other", [{"victim": "RN50"}, {"surrogate": "RN50"}], ids=lambda other: next(iter(other)))
def test_settings_that_differ_between_victims_or_surrogates_are_refused(other: dict[str, Any]) -> None:
    records = [record("mem3", params={"rounds": 6}), record("mem3", params={"rounds": 20}, **other)]
    with pytest.raises(UsageError, match="records mix settings of attack mem3: rounds=6 and rounds=20"):
        make_tables("transfer", records)

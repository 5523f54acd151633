"""Cells of one seed share one data set; where its source asks for it, other seeds have others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.data import Splits
from benchmark.data.scenes import Scenes
from benchmark.grid.records import Record, load_records
from benchmark.tables.defenses import table2
from tests.grid.grids import ATTACK, SCENES, run

FIXED = SCENES.replace("]", ",seed=5]")


def fingerprints(record: Record) -> tuple[str, ...]:
    splits = record.provenance["fingerprints"]
    return record.dataset.params["fingerprint"], splits["val"], splits["test"]


def seeds_loaded(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """A list that the seed of every data set is added to when it is loaded."""
    loaded: list[int | None] = []
    load = Scenes.load

    def counted(source: Scenes, *arguments: Any) -> Splits:
        loaded.append(source.seed)
        return load(source, *arguments)

    monkeypatch.setattr(Scenes, "load", counted)
    return loaded


def three_seeds(out: Path, *extra: str) -> int:
    return run(out, "--seeds", "3", *extra, defense="none", epochs=1)


def test_three_seeds_have_three_data_sets_each_loaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = seeds_loaded(monkeypatch)
    assert three_seeds(tmp_path) == 0
    assert loaded == [1, 2, 3]
    records = load_records(tmp_path)
    assert len(records) == 6
    by_seed = {seed: {fingerprints(r) for r in records if r.seed == seed} for seed in (1, 2, 3)}
    assert all(len(same) == 1 for same in by_seed.values())
    for split in range(3):
        assert len({next(iter(same))[split] for same in by_seed.values()}) == 3
    assert all(record.dataset.params["seed"] == record.seed for record in records)
    assert len({path.name for path in (tmp_path / "poisons").glob("*.safetensors")}) == 3
    # Done cells are found again, and the table has one row for the three seeds.
    capsys.readouterr()
    assert three_seeds(tmp_path) == 0
    printed = capsys.readouterr()
    assert "6 cells, 0 to run" in printed.err
    assert "a data set of its own for each seed" in " ".join(printed.out.split())
    (table,) = table2(records)
    recalls = table.cells[table.cells["column"].str.startswith("R@10")]
    assert recalls["n"].tolist() == [3, 3, 3, 3]


def test_a_given_seed_is_one_data_set_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = seeds_loaded(monkeypatch)
    assert three_seeds(tmp_path, "--dataset", FIXED) == 0
    assert loaded == [5]
    records = load_records(tmp_path)
    assert len({fingerprints(record) for record in records}) == 1
    assert {record.dataset.params["seed"] for record in records} == {5}
    assert "its own" not in " ".join(capsys.readouterr().out.split())


def test_the_cells_seed_and_the_same_number_given_are_one_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--seeds", "5,", defense="none", epochs=1) == 0
    capsys.readouterr()
    assert run(tmp_path, "--seeds", "5,", "--dataset", FIXED, defense="none", epochs=1) == 0
    assert "2 cells, 0 to run" in capsys.readouterr().err
    assert len(list((tmp_path / "poisons").glob("*.safetensors"))) == 1


def test_records_of_other_data_parameters_do_not_mix(tmp_path: Path) -> None:
    assert three_seeds(tmp_path / "a", "--attack", "clean") == 0
    assert three_seeds(tmp_path / "b", "--attack", "clean", "--dataset", SCENES.replace("]", ",grounds=2]")) == 0
    first, other = load_records(tmp_path / "a"), load_records(tmp_path / "b")
    assert len(table2([*first, *other])) == 2
    # Nor under one spelling, as after a change of a default.
    renamed = [replace(r, dataset=replace(r.dataset, spec=SCENES)) for r in other if r.seed == 3]
    with pytest.raises(UsageError, match=r"grounds=1 and grounds=2"):
        table2([*(r for r in first if r.seed < 3), *renamed])


def test_an_export_and_its_poison_are_verified_against_the_data_of_their_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--attack", ATTACK, "--dataset", SCENES, "--victim", "mini", "--surrogate", "mini", "--device", "cpu"]
    words += ["--precision", "fp32", "--poisons", str(tmp_path / "poisons")]
    assert main(["export", *words, "--seed", "2", "--format", "folder", "--out", str(tmp_path / "out")]) == 0
    (poison,) = (tmp_path / "poisons").glob("*.safetensors")
    for path in (tmp_path / "out", poison):
        assert main(["verify", str(path), "--against", SCENES]) == 0
        assert "seed=2" in capsys.readouterr().out
        assert main(["verify", str(path), "--against", SCENES.replace("]", ",seed=1]")]) == 1

"""A data set in which chance decides something has the cell's seed, unless one is given."""

from pathlib import Path

import pytest

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS, openmoji
from benchmark.data.csv_table import CsvTable
from benchmark.grid.choices import choose_dataset

SCENES = "scenes[train=12,val=4,test=4,objects=30]"


@pytest.fixture(autouse=True)
def few_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of OpenMoji's, a hundred."""
    drawings = openmoji.all_drawings()[::40]
    monkeypatch.setattr(openmoji, "all_drawings", lambda: drawings)


@pytest.mark.parametrize("spec", [SCENES, "openmoji"])
def test_each_seed_has_data_of_its_own_and_always_the_same(spec: str, tmp_path: Path) -> None:
    source = DATASETS.build(parse_spec(spec))
    loaded = [source.for_seed(seed).load(16, tmp_path / str(number)) for number, seed in enumerate((1, 1, 2))]
    first, again, other = ([splits.train, splits.val, splits.test] for splits in loaded)
    for one, same, different in zip(first, again, other, strict=True):
        assert one.fingerprint == same.fingerprint
        assert one.captions != different.captions
        assert one.fingerprint != different.fingerprint
    assert (first[0].name, other[0].name) == tuple(str(parse_spec(named(spec, seed))) for seed in (1, 2))


def named(spec: str, seed: int) -> str:
    return f"{spec[:-1]},seed={seed}]" if spec.endswith("]") else f"{spec}[seed={seed}]"


@pytest.mark.parametrize("spec", [SCENES, "openmoji"])
def test_a_given_seed_fixes_the_data_for_all(spec: str, tmp_path: Path) -> None:
    fixed = DATASETS.build(parse_spec(named(spec, 2)))
    assert fixed.for_seed(1) is fixed.for_seed(7) is fixed
    of_cell = DATASETS.build(parse_spec(spec)).for_seed(2)
    assert of_cell.load(16, tmp_path).train.fingerprint == fixed.load(16, tmp_path).train.fingerprint


@pytest.mark.parametrize("spec", [SCENES, "openmoji", "scenes[seed=none]"])
def test_without_a_cell_a_seed_has_to_be_given(spec: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^data set (scenes|openmoji): seed=none means the seed of a cell"):
        DATASETS.build(parse_spec(spec)).load(16, tmp_path)


def test_files_are_the_same_for_all_seeds() -> None:
    table = CsvTable("train.csv", "test.csv")
    assert table.for_seed(1) is table
    chosen = choose_dataset("csv[train=train.csv,test=test.csv]")
    assert chosen.for_seed(3) is chosen
    assert chosen.choice.params["seed"] == 0


def test_parameters_name_the_seed_and_that_it_is_the_cells() -> None:
    chosen = choose_dataset(SCENES).for_seed(3).choice
    assert (chosen.spec, chosen.params["seed"], chosen.params["per_seed"]) == (SCENES, 3, True)
    fixed = choose_dataset(named(SCENES, 3)).for_seed(4).choice
    assert fixed.params["seed"] == 3
    assert "per_seed" not in fixed.params

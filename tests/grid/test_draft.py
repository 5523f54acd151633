"""Records before cells run: what cells share is made and checked once, and comes out as if made for each."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmark.core.errors import UsageError
from benchmark.grid.draft import Draft
from benchmark.grid.opening import open_grid
from benchmark.grid.runner import Grid
from benchmark.grid.settings import RunSettings
from tests.grid.grids import ATTACK, SCENES


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[Grid]:
    settings = RunSettings(
        attack=f"clean,uniform-noise,{ATTACK},{ATTACK.replace('mem', 'delta-only')}",
        defense="none,random-swap",  # of another version
        dataset=SCENES.replace("]", ",seed=0]"),  # one for both seeds
        seeds="2",
        out=tmp_path,
        epochs=1,
        batch_size=16,
        device="cpu",
        poisons=str(tmp_path / "poisons"),
        victim="mini,mini[repeat=2]",
        surrogate="mini",
    )
    with open_grid(settings) as opened:
        yield opened


def test_a_plan_holds_what_each_cell_would_get_alone(grid: Grid) -> None:
    planned = grid.plan()
    assert len({one.key for one in planned}) == len(planned) == 2 * 2 * 4 * 2
    for one in planned:
        data = grid.data_of(one.cell)
        assert one.planned_record == Draft(grid.device, grid.provenance).record(one.cell, data, one.key)
        assert one.poison == grid.poisons.file_of(one.cell, data.train)


def test_a_record_describes_its_data_and_models(grid: Grid) -> None:
    cell = grid.cells[0]
    data = grid.data_of(cell)
    for plain, name in ((False, "fast"), (True, "plain")):
        record = Draft(grid.device, grid.provenance).record(replace(cell, plain_models=plain), data, "key")
        assert record.provenance["models"] == name
        assert record.provenance["fingerprints"] == {"val": data.val.fingerprint, "test": data.test.fingerprint}
        told = {name: record.dataset.params[name] for name in ("train_images", "val_images", "test_images")}
        assert told == {"train_images": 40, "val_images": 8, "test_images": 12}
        captions = [sum(map(len, split.captions)) for split in (data.train, data.test)]
        assert [record.dataset.params[name] for name in ("train_captions", "test_captions")] == captions
        assert captions[1] > 12


def test_what_was_made_of_objects_that_are_gone_is_not_taken_for_others(grid: Grid) -> None:
    """Python gives new objects the ids of old ones."""
    draft = Draft(grid.device, grid.provenance)
    assert [draft._once("number", (object(),), partial(int, number)) for number in range(100)] == list(range(100))


def test_a_part_that_no_record_may_hold_is_refused_wherever_it_comes(grid: Grid) -> None:
    last = grid.cells[-1]
    label = replace(last.defense.choice, label="two\nlines")
    grid.cells = [*grid.cells[:-1], replace(last, defense=replace(last.defense, choice=label))]
    with pytest.raises(UsageError, match="cannot be saved as a record"):
        grid.plan()

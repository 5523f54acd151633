"""What becomes of a record of a cell that ran elsewhere while another run is at the same cell."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from benchmark.core.checkpoints import Checkpoint
from benchmark.core.locks import claimed
from benchmark.core.time_left import Task, TimeLeft
from benchmark.grid import sharing
from benchmark.grid.poison_store import PoisonStore
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.sharing import settle


@pytest.mark.parametrize(("status", "is_kept"), [("done", True), ("failed", False)])
def test_a_complete_record_is_kept_whoever_is_at_the_cell(status: str, is_kept: bool, tmp_path: Path) -> None:
    kept: list[Any] = []

    def keep(one: PlannedCell, record: Record) -> Record:
        kept.append(record)
        return record

    record = cast(Record, SimpleNamespace(status=status))
    one = cast(PlannedCell, SimpleNamespace(path=tmp_path / "one.json", record=None))
    with claimed(one.path, wait=False) as ours:
        assert ours
        assert settle(cast(Grid, SimpleNamespace(keep=keep)), one, record) is record
    assert kept == [record] * is_kept


def test_a_checkpoint_that_another_run_goes_on_from_is_left(tmp_path: Path) -> None:
    """A run of ``--rerun all`` may be at a cell that has a record."""
    one = cast(PlannedCell, SimpleNamespace(path=tmp_path / "one.json"))
    checkpoint = Checkpoint.beside(one.path, 1)
    checkpoint.save({"epoch": 1})
    with claimed(one.path, wait=False) as ours:
        assert ours
        sharing._discard_leftover(one)
        assert checkpoint.exists()
    sharing._discard_leftover(one)
    assert not checkpoint.exists()


def test_what_another_run_has_finished_waits_no_longer(tmp_path: Path) -> None:
    record, poison = tmp_path / "cell.json", tmp_path / "poison.safetensors"
    grid = Grid(
        cells=[],
        splits={},
        out=tmp_path,
        poisons=PoisonStore(tmp_path),
        device=torch.device("cpu"),
        provenance={},
        time_left=TimeLeft({"cell": Task("cell"), str(poison): Task(str(poison))}),
    )
    one = cast(PlannedCell, SimpleNamespace(key="cell", record=None, path=record, poison=poison))
    grid.see_other_runs([one])
    assert set(grid.time_left.waiting) == {"cell", str(poison)}
    with claimed(poison, wait=False):
        assert grid.poison_is_being_made(one)
        poison.touch()
        assert not grid.poison_is_being_made(one)
    grid.see_other_runs([one])
    assert set(grid.time_left.waiting) == {"cell"}
    record.touch()
    grid.see_other_runs([one])
    assert not grid.time_left.waiting


@pytest.mark.parametrize(
    ("ours", "theirs", "counts"),
    [
        ("done", "failed", "ours"),
        ("done", "done", "theirs"),
        ("failed", "failed", "theirs"),
        ("failed", "done", "theirs"),
    ],
)
def test_a_record_that_another_run_saved_meanwhile_counts_unless_it_alone_failed(
    ours: str, theirs: str, counts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {name: cast(Record, SimpleNamespace(status=status)) for name, status in (("ours", ours), ("theirs", theirs))}
    monkeypatch.setattr(sharing, "_finished_meanwhile", lambda _: both["theirs"])
    one = cast(PlannedCell, SimpleNamespace(path=tmp_path / "one.json", record=None))
    grid = cast(Grid, SimpleNamespace(keep=lambda one, record: record))
    assert settle(grid, one, both["ours"]) is both[counts]

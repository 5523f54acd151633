"""Doing the cells of a plan, alone or beside other runs that share the folders of records and poisons."""

import logging
from collections.abc import Sequence
from pathlib import Path

from benchmark.core.atomic_files import holds_content
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.distributed import Processes
from benchmark.core.locks import claimed
from benchmark.core.progress import clock
from benchmark.grid.cells import Cell
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import Rerun

_log = logging.getLogger(__name__)


def run_grid(grid: Grid, planned: Sequence[PlannedCell], rerun: Rerun) -> list[Record]:
    """Run what has to run; a failed cell is reported and does not stop the others.

    Returns:
        The records of all planned cells, in order; none in processes that only help the first.
    """
    processes = Processes.current()
    if not processes.is_first:
        by_key = {one.key: one for one in planned}
        while (key := processes.broadcast_object("")) is not None:
            grid.run(by_key[key])
        return []
    todo = [one for one in planned if one.has_to_run(rerun)]
    for one in planned:
        if one.record is not None and one.record.status == "done" and not one.has_to_run(rerun):
            _discard_leftover(one)
            _save_under_this_spelling(one, grid.out)
    records = {one.key: one.record for one in planned if one.record is not None}
    number = 0

    def attempt(one: PlannedCell, *, wait: bool) -> bool:
        """Run a cell, or take what another run made of it; false while another run is at it or its poison."""
        nonlocal number
        if not wait and grid.poison_is_being_made(one):
            return False
        with claimed(one.path, wait=wait) as ours:
            if not ours:
                return False
            record = _finished_meanwhile(one)
            if record is None:
                processes.broadcast_object(one.key)
                record = grid.run(one)
                grid.time_left.drop(one.key)  # it is still there if its poison could not be crafted
            else:
                grid.time_left.done_elsewhere(one.key)
            records[one.key] = record
        number += 1
        grid.see_other_runs(todo)
        left = f"; {clock(grid.time_left.left())} left" if number < len(todo) else ""
        _log.info("[%s/%s] %s%s", number, len(todo), _outcome(one.cell, record), left)
        return True

    waiting = todo
    while waiting:
        busy = [one for one in waiting if not attempt(one, wait=False)]
        if len(busy) == len(waiting):
            attempt(busy.pop(0), wait=True)
        waiting = busy
    processes.broadcast_object(None)
    return [record for record in (records.get(one.key) for one in planned) if record is not None]


def _save_under_this_spelling(one: PlannedCell, out: Path) -> None:
    """Save the record of a finished cell that lies there under another spelling alone."""
    if one.record is not None and not holds_content(one.path):
        with claimed(one.path, wait=False) as ours:
            if ours and not holds_content(one.path):
                one.record.save(out)


def _discard_leftover(one: PlannedCell) -> None:
    """Remove a finished cell's checkpoint: its run may have been killed between the record and this."""
    checkpoint = Checkpoint.beside(one.path, 1)
    if checkpoint.exists():
        with claimed(one.path, wait=False) as ours:
            if ours:  # else another run is at the cell again, and goes on from it
                checkpoint.discard()


def _finished_meanwhile(one: PlannedCell) -> Record | None:
    """The record that another run has written since the plan was made."""
    record = Record.find(one.path)
    return None if record == one.record else record


def _outcome(cell: Cell, record: Record) -> str:
    if record.status == "failed":
        return f"{cell.title()}: failed: {record.error['message']}"
    test = record.last.test
    scores = f"R@10 {test.image_to_text.recall_at_10:.1f} / {test.text_to_image.recall_at_10:.1f}"
    return f"{cell.title()}: {scores} in {clock(record.seconds['train'] + record.seconds['evaluate'])}"

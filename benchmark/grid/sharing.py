"""Running the cells of a plan in this process, beside other runs that share its folders of records and poisons."""

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.core.checkpoints import Checkpoint
from benchmark.core.distributed import Processes
from benchmark.core.locks import claimed
from benchmark.core.progress import clock
from benchmark.grid.events import Events
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import Rerun

_log = logging.getLogger(__name__)


def run_grid(grid: Grid, planned: Sequence[PlannedCell], rerun: Rerun, events: Events) -> list[Record]:
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
    tidy(grid, planned, rerun)
    records = {one.key: one.record for one in planned if one.record is not None}
    events.tell("plan", cells=len(todo))
    number = 0

    def done(one: PlannedCell, *, wait: bool) -> bool:
        """Run a cell, or take its record from another run; returns whether the cell is done now."""
        nonlocal number
        about = {"name": one.key, "title": one.cell.title(), "where": f"process {os.getpid()}"}
        begins = partial(events.tell, "cell", state="running", **about)
        if (record := attempt(grid, one, wait=wait, begins=begins)) is None:
            return False
        events.tell("cell", state=record.status, **about, **facts_of(record))
        records[one.key] = record
        number += 1
        grid.see_other_runs(todo)
        left = grid.time_left.left() if number < len(todo) else None
        rest = "" if left is None else f"; {clock(left)} left"
        _log.info("[%s/%s] %s: %s%s", number, len(todo), one.cell.title(), outcome(record), rest)
        return True

    waiting = todo
    while waiting:
        busy = [one for one in waiting if not done(one, wait=False)]
        if len(busy) == len(waiting):
            done(busy.pop(0), wait=True)
        waiting = busy
    processes.broadcast_object(None)
    return [record for record in (records.get(one.key) for one in planned) if record is not None]


def attempt(grid: Grid, one: PlannedCell, *, wait: bool, begins: Callable[[], object] = lambda: None) -> Record | None:
    """Run a cell, or take the record that another run has made of it meanwhile.

    Args:
        grid: the grid of the cell.
        one: the cell.
        wait: whether to wait while another run works on the cell.
        begins: called before the cell runs here.

    Returns:
        The record; ``None`` if another run works on the cell or its poison and ``wait`` is false.
    """
    if not wait and grid.poison_is_being_made(one):
        return None
    with claimed(one.path, wait=wait, tidy=True) as ours:
        if not ours:
            return None
        record = _finished_meanwhile(one)
        if record is None:
            begins()
            Processes.current().broadcast_object(one.key)
            record = grid.run(one)
            grid.time_left.drop(one.key)  # it is still there if its poison could not be crafted
        else:
            grid.time_left.done_elsewhere(one.key)
        return record


def settle(grid: Grid, one: PlannedCell, record: Record) -> Record:
    """Save the record of a cell that a worker ran, or that failed without running.

    Returns:
        The record that counts: this one, or that which another run has saved meanwhile.
    """
    with claimed(one.path, wait=False) as ours:
        theirs = _finished_meanwhile(one) if ours else None
        if theirs is not None and (theirs.status == "done" or record.status != "done"):
            return theirs
        # A complete record is kept even while another run is at the cell: that run may die, and would make the same.
        return grid.keep(one, record) if ours or record.status == "done" else record


def tidy(grid: Grid, planned: Sequence[PlannedCell], rerun: Rerun) -> None:
    """For cells that are done, remove leftover checkpoints, and save records that lack their present file name."""
    for one in planned:
        if one.record is not None and one.record.status == "done" and not one.has_to_run(rerun):
            _discard_leftover(one)
            if one.respelled:
                _save_under_this_spelling(one, one.record, grid.out)


def facts_of(record: Record) -> dict[str, Any]:
    """What events tell of a record: the mean recall at 10 on test data, in percent, or why its cell failed."""
    if record.status == "failed":
        return {"reason": record.failure}
    return {"recall_at_10": record.last.test.mean_recall_at_10}


def outcome(record: Record) -> str:
    """What a cell came to, in words."""
    if record.status == "failed":
        return f"failed: {record.failure}"
    test = record.last.test
    scores = f"R@10 {test.image_to_text.recall_at_10:.1f} / {test.text_to_image.recall_at_10:.1f}"
    return f"{scores} in {clock(record.seconds['train'] + record.seconds['evaluate'])}"


def _save_under_this_spelling(one: PlannedCell, record: Record, out: Path) -> None:
    """Save the record of a finished cell, unless another run has saved it meanwhile."""
    with claimed(one.path, wait=False) as ours:
        if ours and ((theirs := Record.find(one.path)) is None or theirs.status != "done"):
            record.save(out)


def _discard_leftover(one: PlannedCell) -> None:
    """Remove a finished cell's checkpoint: its run may have been killed between the record and this."""
    checkpoint = Checkpoint.beside(one.path, 1)
    if checkpoint.exists():
        with claimed(one.path, wait=False) as ours:
            if ours:  # else another run is at the cell again, and goes on from it
                checkpoint.discard()


def _finished_meanwhile(one: PlannedCell) -> Record | None:
    """The record that another run has written since the plan was made.

    A failed one beside a finished one of another spelling was there before: no run puts a failed one in its place.
    """
    record = Record.find(one.path)
    if record is not None and record.status == "failed" and one.record is not None and one.record.status == "done":
        return None
    return None if record == one.record else record

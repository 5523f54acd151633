"""A unit of a run as it travels to another machine, and the grid that it is done in there."""

import logging
import os
import pickle
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmark.core.errors import UsageError
from benchmark.core.time_left import Task
from benchmark.grid.cells import Cell
from benchmark.grid.engines.worker import Messages, Told, hand_messages_to
from benchmark.grid.opening import open_grid
from benchmark.grid.plugins import load_plugins
from benchmark.grid.provenance import suite
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import RunSettings

_SECONDS_BETWEEN_SHARES = 5.0  # hundreds of units tell one driver


@dataclass(frozen=True)
class Work:
    """A poison to craft or a victim to train, as it travels to a node.

    Attributes:
        name: the key of a cell; the name of a poison's file, or its path where the driver is.
        crafts: whether it is a poison.
        title: the unit's, by which it is shown.
        cell: pickled, because its classes may be a plugin's.
        task: its expected cost.
        settings: of the run.
        threads: to compute with; ``None``: as many as torch takes.
        suite: that the run was started with; see :func:`benchmark.grid.provenance.suite`.
        folder: the current one of the run, from which its relative paths are read.
    """

    name: str
    crafts: bool
    title: str
    cell: bytes
    task: Task | None
    settings: RunSettings
    threads: int | None
    suite: str
    folder: str = field(default_factory=os.getcwd, kw_only=True)


_open: tuple[Any, ExitStack, Grid] | None = None


def opened(work: Work, settings: RunSettings, send: Callable[[tuple[Any, ...]], None]) -> tuple[Grid, PlannedCell]:
    """Open the grid of one cell, or take the grid of the cell before, if that cell had the same data.

    A grid stays open until a cell with other data comes, so that data are loaded and measured only once.

    Args:
        work: the unit, which is told to begin.
        settings: of the grid, with the folders that the unit is done in.
        send: takes what the driver should hear: ``("begins", where)``, ``("message", level, text)`` and ``("share",
            share, resumed, seconds at it)``.

    Raises:
        UsageError: bad input, or another suite or other data than the driver's.
    """
    global _open
    send(("begins", f"{socket.gethostname()} (process {os.getpid()})"))
    if work.threads is not None:
        torch.set_num_threads(work.threads)
    if Path(work.folder).is_dir():
        os.chdir(work.folder)
    load_plugins(work.settings.plugin)
    cell: Cell = pickle.loads(work.cell)
    hand_messages_to(Messages(send), logging.WARNING)
    same = settings, cell.seed, cell.victim.resolution, str(cell.dataset.choice)
    if _open is None or _open[0] != same:
        if _open is not None:
            _open[1].close()
            _open = None
        stack = ExitStack()
        _open = same, stack, stack.enter_context(open_grid(settings, cells=[cell]))
    grid = _open[2]
    grid.cells = [cell]
    (one,) = grid.plan()
    name = str(one.poison) if work.crafts else one.key
    if Path(name).name != Path(work.name).name:  # names are hashes of the data and the code, among others
        host = socket.gethostname()
        if work.suite != suite():
            raise UsageError(f"{host} has the suite in {suite()}, the run was started with {work.suite}")
        raise UsageError(f"{host} has other data for {work.title} than the machine where the run was started")
    grid.time_left = Told({} if work.task is None else {name: work.task}, name, send, _SECONDS_BETWEEN_SHARES)
    return grid, one

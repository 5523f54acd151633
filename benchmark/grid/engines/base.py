"""The contract of engines."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from benchmark.core.distributed import started_processes
from benchmark.core.errors import UsageError
from benchmark.core.locks import claimed
from benchmark.core.registrable import parameters_of
from benchmark.core.registry import Registry
from benchmark.core.spec import Spec, parse_spec
from benchmark.grid.board import Board
from benchmark.grid.engines.agenda import gathered
from benchmark.grid.events import Events
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import RunSettings
from benchmark.grid.sharing import tidy
from benchmark.grid.units import Unit, longest_first, units_of

SetTimeLeft = Callable[[int | None, Callable[[], None]], None]
"""Estimates the ``time_left`` of a grid, if progress or events show it. Its arguments are the number of workers,
``None`` if unknown, and a function that it calls before it times any steps, which takes seconds."""


@dataclass(frozen=True)
class Crew:
    """The workers of a run, as functions that give them work.

    Attributes:
        do: runs units, in the given order as far as they can begin, and reports to a board. Returns the records of
            failed cells by key.
        begin: begins some of the units while the speed is measured, if the engine can; ``do`` goes on with these units.
        workers: how many units run at a time; ``None`` if unknown.
    """

    do: Callable[[Sequence[Unit], Board], dict[str, Record]]
    begin: Callable[[Sequence[Unit]], None] = lambda units: None
    workers: int | None = None


class Engine(ABC):
    """Does the cells of a plan. Where a cell runs changes neither its address nor its scores.

    Attributes:
        measures: whether cells run on this machine, so that steps timed here tell how long they take.
    """

    measures: ClassVar[bool] = True

    @property
    def starts_processes(self) -> bool:
        """Whether cells run in other processes than this one, which :meth:`started` starts."""
        return True

    def workers(self, settings: RunSettings, device: torch.device) -> int | None:
        """How many units it does at a time, if that is known before it starts."""
        return None

    def threads(self, device: torch.device) -> int | None:
        """With how many threads a cell computes on a device; ``None``: as many as torch takes."""
        return None

    @contextmanager
    def prepared(self, settings: RunSettings, device: torch.device) -> Iterator[None]:
        """Before the grid is opened, refuse settings and start processes, as far as neither depends on it.

        The block encloses the opening and the run. Processes that are left at its end are ended.

        Raises:
            UsageError: settings that do not suit the engine.
        """
        yield

    @abstractmethod
    def started(
        self, grid: Grid, planned: Sequence[PlannedCell], settings: RunSettings
    ) -> AbstractContextManager[Crew]:
        """Start whatever does the units of a run, and end it with the block.

        Args:
            grid: open, its folders of records and poisons made.
            planned: all cells of the grid, some of which have to run.
            settings: what the grid was made from.

        Raises:
            UsageError: bad input.
        """

    def run(
        self,
        grid: Grid,
        planned: Sequence[PlannedCell],
        settings: RunSettings,
        events: Events,
        set_time_left: SetTimeLeft,
    ) -> list[Record]:
        """Run what has to run; a failed cell is reported and does not stop the others.

        Args:
            grid: as for :meth:`started`.
            planned: all cells of the grid.
            settings: what the grid was made from.
            events: where every change of a cell's state is told.
            set_time_left: estimates the grid's ``time_left``.

        Returns:
            The records of all planned cells, in order; none in processes that only help the first.
        """
        tidy(grid, planned, settings.rerun)
        units = units_of(planned, settings.rerun)
        failed: dict[str, Record] = {}
        if units:
            with self.started(grid, planned, settings) as crew:
                set_time_left(crew.workers, lambda: crew.begin(units))  # meanwhile workers craft
                in_order = longest_first(units, grid.time_left.waiting)
                board = Board(in_order, grid.time_left.pace, events)
                with board.shown():
                    failed = crew.do(in_order, board)
        else:
            events.tell("plan", units=0, cells=0)
        return gathered(planned, units, failed)


@contextmanager
def sole_run(path: Path, engine: str) -> Iterator[None]:
    """Hold the claim on a run of a cluster, so that no second driver takes what the first is waiting for.

    Args:
        path: names the run, in a folder that exists.
        engine: its name.

    Raises:
        UsageError: the same command is running already.
    """
    with claimed(path, wait=False) as ours:
        if not ours:
            raise UsageError(f"--on {engine}: this command is running already, with records in the same folder")
        yield


ENGINES: Registry[Engine] = Registry("engine", "benchmark.grid.engines", Engine)


def choose_engine(settings: RunSettings) -> Engine:
    """The engine that settings name by ``on``; ``jobs`` and ``store`` are parameters of it.

    Raises:
        UsageError: unknown engine or parameter, or ``torchrun`` beside an engine that starts processes of its own.
    """
    spec = parse_spec(settings.on)
    for name in ("jobs", "store"):
        if (value := getattr(settings, name)) is not None:
            if name in spec.params:
                raise UsageError(f"--{name} {value} and --on '{spec}' both name {name}")
            if name not in parameters_of(ENGINES.entry(spec.name).factory):
                raise UsageError(f"--{name} has no meaning with --on {spec.name}")
            spec = Spec(spec.name, {**spec.params, name: value})
    engine = ENGINES.build(spec)
    if engine.starts_processes and started_processes() > 1:
        raise UsageError("--jobs, and --on with a cluster, start processes of their own: leave out torchrun")
    return engine

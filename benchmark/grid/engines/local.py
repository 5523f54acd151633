"""The engine of one machine."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from benchmark.core.distributed import Processes
from benchmark.core.errors import UsageError
from benchmark.core.schedule import Pace
from benchmark.grid.board import Board
from benchmark.grid.engines.agenda import gathered
from benchmark.grid.engines.base import ENGINES, Engine
from benchmark.grid.engines.pool import Pool, pool_of
from benchmark.grid.events import Events
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import RunSettings
from benchmark.grid.sharing import run_grid, tidy
from benchmark.grid.units import units_of

_log = logging.getLogger(__name__)
_MEASURING = 3.0  # seconds with each number of workers
_WORTH_IT = 1.1  # times as fast, or more workers are not kept


@ENGINES.register("local")
@dataclass(frozen=True)
class Local(Engine):
    """This machine: this process, or ``jobs`` worker processes that share the cells.

    On a CPU each worker has one thread, however many workers there are, so that their number changes no result. On GPUs
    each has one GPU. ``auto`` takes as many as there are GPUs; on a CPU as many as make the whole faster, by measuring.

    Raises:
        UsageError: fewer than one worker.
    """

    jobs: int | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.jobs, int) and self.jobs < 1:
            raise UsageError(f"--jobs must be at least 1, or auto, got {self.jobs}")

    def threads(self, device: torch.device) -> int | None:
        """One in each worker."""
        return 1 if self.jobs is not None and device.type == "cpu" else None

    def run(
        self,
        grid: Grid,
        planned: Sequence[PlannedCell],
        settings: RunSettings,
        events: Events,
        set_time_left: Callable[[], None],
    ) -> list[Record]:
        """Run the cells one after the other, or by workers."""
        if self.jobs is None:
            set_time_left()
            return run_grid(grid, planned, settings.rerun, events)
        if Processes.current().size > 1:
            raise UsageError("--jobs starts processes of its own: leave out torchrun")
        tidy(grid, planned, settings.rerun)
        units = units_of(planned, settings.rerun)
        failed: dict[str, Record] = {}
        if units:
            devices = _devices(settings.device, grid.device)
            with pool_of(grid, settings, self.threads(grid.device), devices) as pool:
                if self.jobs == "auto":
                    set_time_left()
                    _fit(pool, most=min(len(units), len(devices) or _most_beside(grid.device)), measured=not devices)
                else:
                    pool.resize(min(self.jobs, len(units)))
                    set_time_left()
                units = units_of(planned, settings.rerun, grid.time_left.waiting)  # the longest first
                board = Board(units, Pace(grid.time_left.waiting, grid.time_left.trusted), events)
                with board.shown():
                    failed = pool.run(units, board)
        return gathered(planned, units, failed)


def _fit(pool: Pool, most: int, *, measured: bool) -> None:
    """Start as many workers as are worth it: twice as many, as long as that makes the whole faster."""
    if not measured or most == 1:
        pool.resize(most)
        return
    _log.info("measuring how many workers are fastest")
    best, count, speed = 0, 1, 0.0
    while count > best:
        pool.resize(count)
        faster = pool.steps_per_second(_MEASURING)
        _log.info("%s worker%s: %.2f training steps a second", count, "s" if count > 1 else "", faster)
        if faster < _WORTH_IT * speed:
            break
        best, count, speed = count, min(2 * count, most), faster
    pool.resize(max(best, 1))


def _devices(asked: str, device: torch.device) -> list[str]:
    """The GPUs that workers take in turn, as ``CUDA_VISIBLE_DEVICES`` names them; none on a CPU or one named GPU."""
    if device.type != "cuda" or asked not in ("auto", "cuda"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


def _most_beside(device: torch.device) -> int:
    """How many workers may be worth it on one device: one on a GPU, one for each CPU."""
    if device.type == "cuda":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

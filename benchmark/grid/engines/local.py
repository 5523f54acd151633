"""The engine of one machine."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from benchmark.core.errors import UsageError
from benchmark.core.idle_cpus import usable_cpus
from benchmark.grid.engines.base import ENGINES, Crew, Engine, SetTimeLeft
from benchmark.grid.engines.pool import VISIBLE_DEVICES, Pool, Worker, start_worker
from benchmark.grid.events import Events
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import RunSettings
from benchmark.grid.sharing import run_grid
from benchmark.grid.units import units_of

_log = logging.getLogger(__name__)
_MEASURING = 3.0  # seconds with each number of workers
_MOST_JOBS = 512
_WORTH_IT = 1.1  # times as fast, or more workers are not kept


@ENGINES.register("local")
@dataclass(frozen=True)
class Local(Engine):
    """This machine: this process, or ``jobs`` worker processes that share the cells.

    On a CPU each worker has one thread, however many workers there are, so that their number changes no result. On GPUs
    each has one GPU. ``auto`` takes as many as there are GPUs; on a CPU as many as make the whole faster, by measuring.

    Raises:
        UsageError: no worker, or more than any machine has use for.
    """

    jobs: int | Literal["auto"] | None = None
    _early: list[Worker] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.jobs, int) and not 1 <= self.jobs <= _MOST_JOBS:
            raise UsageError(f"--jobs must be from 1 to {_MOST_JOBS}, or auto, got {self.jobs}")

    @property
    def starts_processes(self) -> bool:
        """With workers."""
        return self.jobs is not None

    def workers(self, settings: RunSettings, device: torch.device) -> int | None:
        """This process, or as many as asked for, as far as there are CPUs or GPUs; ``auto`` is unknown."""
        if isinstance(self.jobs, int):
            return min(self.jobs, len(_devices(settings.device, device)) or _most_beside(device))
        return 1 if self.jobs is None else None

    def threads(self, device: torch.device) -> int | None:
        """One in each worker."""
        return 1 if self.jobs is not None and device.type == "cpu" else None

    @contextmanager
    def prepared(self, settings: RunSettings, device: torch.device) -> Iterator[None]:
        """Workers import for seconds, so they are started first, if it is known how many."""
        try:
            if isinstance(self.jobs, int) and not settings.dry_run:
                devices = _devices(settings.device, device)
                # More would compete for memory before it is known whether there is so much to do.
                for number in range(1, min(self.jobs, max(len(devices), usable_cpus())) + 1):
                    self._early.append(start_worker(number, self.threads(device), devices))
            yield
        finally:
            for worker in self._early:
                worker.end()

    def run(
        self,
        grid: Grid,
        planned: Sequence[PlannedCell],
        settings: RunSettings,
        events: Events,
        set_time_left: SetTimeLeft,
    ) -> list[Record]:
        """Run the cells one after the other in this process, or by workers."""
        if self.jobs is not None:
            return super().run(grid, planned, settings, events, set_time_left)
        set_time_left(self.workers(settings, grid.device), lambda: None)
        return run_grid(grid, planned, settings.rerun, events)

    @contextmanager
    def started(self, grid: Grid, planned: Sequence[PlannedCell], settings: RunSettings) -> Iterator[Crew]:
        """Workers: as many as asked for, or as make the whole faster."""
        count = len(units_of(planned, settings.rerun))
        devices = _devices(settings.device, grid.device)
        if devices:  # for auto, a worker whose GPU no longer answers would take the CPU
            settings = replace(settings, device="cuda")
        with closing(Pool(grid, settings, self.threads(grid.device), devices, self._early)) as pool:
            if isinstance(self.jobs, int):
                pool.resize(min(self.jobs, count))
            else:
                _fit(pool, most=min(count, len(devices) or _most_beside(grid.device)), measured=not devices)
            at_once = min(len(pool), len(devices) or _most_beside(grid.device))  # more workers compete for these
            yield Crew(lambda _, board: pool.run(board.order_for(len(pool)), board), pool.begin, at_once)


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
        if not faster or faster < _WORTH_IT * speed:
            break
        best, count, speed = count, min(2 * count, most), faster
    pool.resize(max(best, 1))


def _devices(asked: str, device: torch.device) -> list[str]:
    """The GPUs that workers take in turn, as ``CUDA_VISIBLE_DEVICES`` names them; none on a CPU or one named GPU."""
    if device.type != "cuda" or asked not in ("auto", "cuda"):
        return []
    visible = os.environ.get(VISIBLE_DEVICES) or os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if visible and visible.startswith("MIG-"):
        return visible.split(",")  # slices of a GPU: a process sees a single one, however many are named
    # It may name more than there are.
    return visible.split(",")[:count] if visible else [str(number) for number in range(count)]


def _most_beside(device: torch.device) -> int:
    """How many workers may be worth it on one device: one on a GPU, one for each CPU."""
    return 1 if device.type == "cuda" else usable_cpus()

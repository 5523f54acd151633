"""Worker processes of one grid on this machine: who does what next, and what becomes of a worker that dies."""

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from benchmark.core.errors import Failure, UsageError
from benchmark.core.idle_cpus import usable_cpus
from benchmark.core.threads import worker_variables
from benchmark.core.time_left import Task
from benchmark.grid.board import Board
from benchmark.grid.engines.agenda import Agenda
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid
from benchmark.grid.settings import RunSettings
from benchmark.grid.units import Unit

_log = logging.getLogger(__name__)
VISIBLE_DEVICES = "HIP_VISIBLE_DEVICES" if torch.version.hip else "CUDA_VISIBLE_DEVICES"
"""The variable that names the GPUs of a process; AMD's has precedence over NVIDIA's."""
# A unit that ends so many workers, by the memory it takes, say, would end all that come after.
_MOST_DEATHS = 3
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_TRIES = 5.0  # at units that another run is at
# A Ctrl-C reaches all processes; the parent ends these, which say nothing even while they import.
_CODE = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from benchmark.grid.engines.worker import main; main()"
)


class Worker:
    """A worker process, which imports what it needs and then waits for a grid to open.

    Args:
        number: from 1.
        threads: with which it computes; ``None``: as many as torch takes.
        device: what ``CUDA_VISIBLE_DEVICES`` is for it; ``None`` leaves it as it is.

    Attributes:
        link: where its answers come from.
        unit: what it does, if it does anything.
        ready: whether it has opened the grid.
        idle: how many idle CPUs it may use as well.
    """

    def __init__(self, number: int, threads: int | None, device: str | None) -> None:
        self.number, self.ready, self.idle, self._threads = number, False, 0, threads
        self.unit: Unit | None = None
        self.link, theirs = Pipe()
        variables = os.environ | worker_variables(threads)
        if device is not None:
            variables[VISIBLE_DEVICES] = device
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, str(theirs.fileno())],
                env=variables,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def open(self, settings: RunSettings, cells: bytes) -> None:
        """Let it open a grid: what it was made from, and its pickled cells."""
        self.ask(settings, cells, self._threads, logging.getLogger("benchmark").getEffectiveLevel())

    @property
    def where(self) -> str:
        """The worker in words."""
        return f"worker {self.number} (process {self.process.pid})"

    def ask(self, *request: Any) -> None:
        """Send a request; one to a worker that is gone is noticed later."""
        try:
            self.link.send(request)
        except OSError:
            _log.debug("%s is gone", self.where)

    def end(self) -> None:
        """End the process."""
        self.link.close()
        self.process.kill()
        self.process.wait()


def start_worker(number: int, threads: int | None, devices: Sequence[str]) -> Worker:
    """Worker ``number`` of some, on one of the devices, which they take in turn; see :class:`Worker`."""
    return Worker(number, threads, devices[(number - 1) % len(devices)] if devices else None)


class Pool:
    """Workers that do the units of a grid.

    Args:
        grid: open in this process as well.
        settings: what the grid was made from.
        threads: of each worker; ``None``: as many as torch takes.
        devices: what ``CUDA_VISIBLE_DEVICES`` is for the workers, in turn; none leaves it as it is.
        early: the first workers, where they have been started already; the pool ends them.
    """

    def __init__(
        self,
        grid: Grid,
        settings: RunSettings,
        threads: int | None,
        devices: Sequence[str] = (),
        early: Sequence[Worker] = (),
    ) -> None:
        self._grid, self._threads, self._devices, self._early = grid, threads, devices, list(early)
        # The folder of this run, where the settings say that no poison is kept.
        self._settings = replace(settings, poisons=str(grid.poisons.folder), on="local", jobs=None, events=None)
        self._cells = pickle.dumps(grid.cells)
        self._workers: list[Worker] = []
        self._failed_starts = 0
        self._speeds: list[float] = []
        self._board: Board
        self._agenda: Agenda
        self._busy: set[str] = set()
        self._begun: set[str] = set()  # units that workers were given before their costs were known
        self._deaths: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._workers)

    def resize(self, count: int) -> None:
        """Start workers, or end some that do nothing."""
        for number in range(len(self._workers) + 1, count + 1):
            self._workers.append(self._started(number))
        for worker in [*self._workers[count:], *self._early]:
            worker.end()
        del self._workers[count:], self._early[:]

    def steps_per_second(self, seconds: float) -> float:
        """Training steps that all workers together do in a second; 0 if one of them ends, as for want of memory."""
        asked = list(self._workers)
        while self._workers == asked and not all(worker.ready for worker in asked):
            self._look()
        self._speeds = []
        for worker in asked:
            worker.ask("measure", seconds)
        while self._workers == asked and len(self._speeds) < len(asked):
            self._look()
        return sum(self._speeds) if self._workers == asked else 0.0

    def begin(self, units: Sequence[Unit]) -> None:
        """Let all workers but the first begin with poisons; this process works meanwhile, in place of the first.

        It first waits until all have opened the grid, as that would slow down what this process times.
        """
        while not all(worker.ready for worker in self._workers):
            self._look()
        poisons = [unit for unit in units if unit.crafts]
        for worker, unit in zip(self._workers[1:], poisons, strict=False):
            _begin(worker, unit, None, wait=False)
            self._begun.add(unit.name)

    def run(self, units: Sequence[Unit], board: Board) -> dict[str, Record]:
        """Do all units; the records of cells that failed, by key.

        Raises:
            UsageError: a worker met bad input, such as a full disk, or all end before they begin.
            RuntimeError: a worker answers what it was not asked.
        """
        self._board, self._agenda = board, Agenda(self._grid, units, board)
        for worker in self._workers:
            if (unit := worker.unit) is not None:
                self._agenda.remove([unit])
                board.begins(unit, worker.where)
        next_try = 0.0
        while self._agenda.waiting or any(worker.unit for worker in self._workers):
            board.workers = len(self._workers)
            for worker in self._workers:
                if worker.ready and worker.unit is None and (found := self._next()) is not None:
                    self._give(worker, found, wait=found.name in self._busy)
            self._share_idle()
            self._look()
            if time.monotonic() > next_try:
                next_try = time.monotonic() + _SECONDS_BETWEEN_TRIES
                self._busy.clear()
            board.tick()
        return self._agenda.failed

    def close(self) -> None:
        """End all workers, whatever they do."""
        self.resize(0)

    def _started(self, number: int) -> Worker:
        worker = self._early.pop(0) if self._early else start_worker(number, self._threads, self._devices)
        worker.open(self._settings, self._cells)
        return worker

    def _next(self) -> Unit | None:
        """The first unit that can begin and that no other run works on.

        If there is none and all workers are free, the first unit that can begin, though another run works on it.
        """
        can = list(self._agenda.ready())
        free = next((unit for unit in can if unit.name not in self._busy), None)
        if free is None and can and not any(worker.unit for worker in self._workers):
            return can[0]
        return free

    def _give(self, worker: Worker, unit: Unit, *, wait: bool) -> None:
        self._agenda.remove([unit])
        self._begun.discard(unit.name)
        self._board.begins(unit, worker.where)
        _begin(worker, unit, self._board.task(unit), wait=wait)

    def _share_idle(self) -> None:
        """Share the CPUs of idle workers among the workers that craft; if none crafts, among those that train."""
        if self._threads != 1:
            return
        idle = sum(worker.ready and worker.unit is None for worker in self._workers)
        idle = max(0, min(idle, usable_cpus() - (len(self) - idle)))  # there may be fewer CPUs than workers
        crafting = [worker for worker in self._workers if worker.unit is not None and worker.unit.crafts]
        helped = crafting or [worker for worker in self._workers if worker.unit is not None]
        for worker in self._workers:
            share = (idle + helped.index(worker)) // len(helped) if worker in helped else 0
            if worker.idle != share:
                worker.idle = share
                worker.ask("idle", share)

    def _look(self) -> None:
        """Take what workers have to say, for a second at most."""
        by_link = {worker.link: worker for worker in self._workers}
        # A process that a plugin has started may hold the socket of a dead worker, so that no end of file arrives.
        for worker in self._workers[:]:
            if worker.process.poll() is not None and not worker.link.poll():
                self._died(worker)
                return
        for link in wait(list(by_link), _SECONDS_BETWEEN_LOOKS):
            assert isinstance(link, Connection)
            worker = by_link[link]
            try:
                answer = link.recv()
            except (EOFError, OSError):
                self._died(worker)
            else:
                self._take(worker, *answer)

    def _take(self, worker: Worker, kind: str, *rest: Any) -> None:
        unit = worker.unit
        if kind == "ready":
            worker.ready, self._failed_starts = True, 0
        elif kind == "refused":
            raise UsageError(rest[0])
        elif kind == "message":
            _log.log(rest[0], "%s", rest[1])
        elif kind == "speed":
            self._speeds.append(rest[0])
        elif unit is None:
            raise RuntimeError(f"{worker.where} answers '{kind}' without being asked")
        elif kind == "share":
            share, resumed, seconds = rest
            if unit.name in self._begun:
                share = self._board.task(unit).share_after(share)
            self._board.reaches(unit, share, resumed=resumed, seconds=seconds)
        else:
            worker.unit = None
            if kind == "busy":
                self._busy.add(unit.name)
                self._agenda.waiting.append(unit)
                self._board.waits(unit, "another run is working on it")
            else:
                self._end(unit, rest[0])

    def _end(self, unit: Unit, outcome: Record | Failure | None) -> None:
        self._busy.clear()
        self._agenda.ends(unit, outcome)

    def _died(self, worker: Worker) -> None:
        """Start a worker in place of a dead one, and let the next free worker go on with its unit, from the checkpoint.

        After several deaths of workers that were not ready yet, such workers are no longer replaced.
        """
        code = worker.process.wait()
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        unit = worker.unit
        self._failed_starts += not worker.ready
        is_replaced = worker.ready or self._failed_starts < _MOST_DEATHS
        if not is_replaced:
            if len(self) == 1:
                raise UsageError(
                    f"a worker process {how} before it did anything, {self._failed_starts} times in a row; if it said "
                    "nothing above, memory may be short, and fewer --jobs need less"
                )
            _log.warning("%s %s before it did anything; there is none in its place", worker.where, how)
        if unit is not None:
            self._deaths[unit.name] += 1
            if self._deaths[unit.name] >= _MOST_DEATHS:
                message = f"its worker {how}, like the {_MOST_DEATHS - 1} before it"
                if code == -signal.SIGKILL:  # as the system ends processes for want of memory
                    message += "; memory may be short" + (", and fewer --jobs need less" if len(self) > 1 else "")
                self._end(unit, Failure("WorkerDied", message, ""))
            else:
                _log.warning("%s %s; another goes on with %s", worker.where, how, unit.title)
                self._board.waits(unit, f"its worker {how}")
                self._agenda.put_back([unit])
        worker.end()
        place = self._workers.index(worker)
        self._workers[place : place + 1] = [self._started(worker.number)] if is_replaced else []


def _begin(worker: Worker, unit: Unit, task: Task | None, *, wait: bool) -> None:
    """Let a worker do a unit; all its steps count alike where no task tells what they cost."""
    worker.unit, one = unit, unit.planned
    worker.ask("craft" if unit.crafts else "train", one.key, one.record, task, wait)

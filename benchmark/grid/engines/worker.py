"""A worker process of one grid: does the units that the parent process sends, and tells how far it is.

Parent and worker exchange tuples over a socket. Requests: ``("craft" | "train", unit's key, record, task, wait)``,
``("measure", seconds)`` and, at any time, ``("idle", CPUs that have nothing else to do)``. Answers: ``("ready",)``,
``("refused", message)``, ``("message", level, text)``, ``("share", share, resumed, seconds at it)``, ``("busy",)``,
``("crafted", failure)``, ``("trained", record)`` and ``("speed", steps a second)``.
"""

import logging
import os
import pickle
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import torch

from benchmark.core.devices import computes
from benchmark.core.disk_space import is_full_disk
from benchmark.core.errors import UsageError
from benchmark.core.idle_cpus import tell_idle_cpus
from benchmark.core.log import PACKAGES
from benchmark.core.time_left import TimeLeft
from benchmark.grid.measure import steps_per_second
from benchmark.grid.opening import open_grid
from benchmark.grid.plugins import load_plugins
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.sharing import attempt

_SECONDS_BETWEEN_SHARES = 0.5
Request = tuple[Any, ...]
Answer = tuple[Any, ...]


def main() -> None:
    """Serve the parent whose socket the first argument names, until it is closed."""
    link = Connection(int(sys.argv[1]))
    try:
        settings, pickled, threads, level = link.recv()
    except EOFError:
        return  # the parent has no grid to open
    if threads is not None:
        torch.set_num_threads(threads)
    hand_messages_to(logging.NullHandler(), level)
    send = _Sender(link)
    requests = queue.Queue[Request]()
    threading.Thread(target=_receive, args=(link, requests), daemon=True).start()
    try:
        load_plugins(settings.plugin)  # whose classes the cells may have
        with open_grid(settings, cells=pickle.loads(pickled)) as grid:
            # Not before: the parent has shown what opening the grid has to say.
            hand_messages_to(Messages(send), level)
            serve(grid, requests.get, send)
    except (UsageError, OSError) as error:
        if settings.device == "cuda" and not computes(torch.device("cuda")):
            raise  # the fault of this worker's GPU: the parent goes on with the others
        if not (isinstance(error, UsageError) or is_full_disk(error)):
            raise
        send(("refused", str(error)))


def serve(grid: Grid, receive: Callable[[], Request], send: Callable[[Answer], None]) -> NoReturn:
    """Do units one after the other; never returns."""
    planned = {one.key: one for one in grid.plan()}
    send(("ready",))
    while True:
        kind, *rest = receive()
        if kind == "measure":
            first = grid.cells[0]
            send(("speed", steps_per_second(first, grid.data_of(first), grid.device, *rest)))
            continue
        key, record, task, wait = rest
        if key not in planned:
            raise UsageError("the data, the suite or a plugin have changed since the run began: start it again")
        one = replace(planned[key], record=record)
        name = one.key if kind == "train" else str(one.poison)
        grid.time_left = Told({} if task is None else {name: task}, name, send)
        send(_craft(grid, one, wait) if kind == "craft" else _train(grid, one, wait))


def _train(grid: Grid, one: PlannedCell, wait: bool) -> Answer:
    record = attempt(grid, one, wait=wait)
    return ("busy",) if record is None else ("trained", record)


def _craft(grid: Grid, one: PlannedCell, wait: bool) -> Answer:
    if not wait and grid.poison_is_being_made(one):
        return ("busy",)
    return ("crafted", grid.craft(one))


class Told(TimeLeft):
    """Tells another process how far a unit is; reports of finished steps are at least ``pause`` seconds apart."""

    is_shown_elsewhere = True

    def __init__(
        self, tasks: Any, name: str, send: Callable[[Answer], None], pause: float = _SECONDS_BETWEEN_SHARES
    ) -> None:
        super().__init__(tasks)
        self._name, self._send, self._pause = name, send, pause
        self._sent, self._own, self._start = 0.0, False, 0.0

    @contextmanager
    def working(self, name: str, steps: int) -> Iterator[None]:
        """Time a task while the block runs."""
        # Another name is that of a poison which should exist, but has to be crafted first. It is not reported.
        self._own, self._start = name == self._name, time.monotonic()
        with super().working(name, steps):
            yield
            self._tell()

    def advance(self) -> None:
        """Count a finished step, and tell now and then."""
        super().advance()
        if time.monotonic() - self._sent > self._pause:
            self._tell()

    def resume(self, steps: int) -> None:
        """Count steps that an earlier run has done, and tell."""
        super().resume(steps)
        self._tell(resumed=True)

    def done_elsewhere(self, name: str) -> None:
        """Remove a task that another run has finished, and tell that it took no time here."""
        super().done_elsewhere(name)
        if name == self._name:
            self._send(("share", 1.0, True, 0.0))

    def _tell(self, *, resumed: bool = False) -> None:
        if self._own:
            self._sent = time.monotonic()
            self._send(("share", self.share_done(), resumed, self._sent - self._start))


class _Sender:
    """Sends whole answers, whichever thread they come from."""

    def __init__(self, link: Connection) -> None:
        self._link, self._lock = link, threading.Lock()

    def __call__(self, answer: Answer) -> None:
        with self._lock:
            self._link.send(answer)


class Messages(logging.Handler):
    """Sends messages to the process that shows them; it shows progress in its own way."""

    def __init__(self, send: Callable[[Answer], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send a message unless it is of progress, and the lines of its traceback."""
        if record.name != "benchmark.core.progress":
            raised = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
            for line in (record.getMessage(), *raised.splitlines()):
                self._send(("message", record.levelno, line))


def hand_messages_to(handler: logging.Handler, level: int) -> None:
    """Give the messages of all packages from a level upwards to one handler alone."""
    for logger in map(logging.getLogger, PACKAGES):
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(level)


def _receive(link: Connection, requests: "queue.Queue[Request]") -> None:
    """Take requests; when the parent is gone, end at once, as after SIGKILL: nothing is lost by that."""
    while True:
        try:
            request = link.recv()
        except (EOFError, OSError):
            os._exit(1)
        if request[0] == "idle":
            tell_idle_cpus(request[1])
        else:
            requests.put(request)

"""What the Ray engine runs on the nodes of a cluster: poisons and cells as tasks, and the actor that owns them.

A node shares no folder with any other. It prepares data in its own cache, and works in a folder there that is named by
the run.
"""

import asyncio
import logging
import shutil
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from benchmark.core.atomic_files import make_folder, replacing
from benchmark.core.cache_dir import cache_folder
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.devices import computes
from benchmark.core.errors import Failure, first_line
from benchmark.core.locks import claimed
from benchmark.grid.engines.node import Work, opened
from benchmark.grid.engines.store import Store, StoreError, mirrored
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import RunSettings

PoisonBytes = NDArray[np.uint8]
"""(B,) the bytes of a poison's file."""

_SECONDS_BETWEEN_TAKES = 1.0
_FORSAKEN = 7 * 86400.0  # seconds after which the owner of a run that nobody asks for ends, once its tasks are done


@dataclass(frozen=True)
class RayWork(Work):
    """A unit as a task of Ray.

    Attributes:
        run: names the folder of the run in a node's cache.
        store: URL of the store of poisons and checkpoints, if there is one.
    """

    run: str
    store: str | None


class NodeFault(Exception):
    """An error that another node may be spared, so that the task runs again; ``failure`` is what is kept of it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


def craft(work: RayWork, owner: Any) -> tuple[Failure | None, PoisonBytes | None]:
    """Craft a poison; returns what went wrong, and its file's content unless it went to the store.

    Raises:
        NodeFault: what went wrong may be this node's fault.
    """
    with _node_faults(work, owner):
        return _crafted(work, owner)


def train(work: RayWork, owner: Any, poison: PoisonBytes | None) -> Record:
    """Train a victim; ``poison`` is the content of its poison's file, where that is not in the store.

    Raises:
        NodeFault: what went wrong may be this node's fault.
    """
    with _node_faults(work, owner):
        return _trained(work, owner, poison)


@contextmanager
def _node_faults(work: RayWork, owner: Any) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        device = work.settings.device
        gpu_is_gone = device.startswith("cuda") and not computes(torch.device(device))
        if not (gpu_is_gone or _may_be_the_nodes(error)):
            raise
        told = f"{work.title} failed on {socket.gethostname()}: {first_line(error)}"
        owner.tell.remote(work.name, "message", logging.WARNING, told)
        raise NodeFault(Failure.of(error)) from None


def _may_be_the_nodes(error: BaseException) -> bool:
    """Whether it may be this node's disk, memory or network, or what else runs there."""
    kinds = (StoreError, OSError, MemoryError, torch.OutOfMemoryError)
    of_memory = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)  # torch has no class for it
    return of_memory or isinstance(error, kinds) or isinstance(error.__cause__, OSError | SafetensorError)


def _crafted(work: RayWork, owner: Any) -> tuple[Failure | None, PoisonBytes | None]:
    grid, one = _opened(work, owner)
    path, store = one.poison, Store.at(work.store)
    assert path is not None
    checkpoint = Checkpoint.beside(path, grid.poisons.checkpoint_every)
    with mirrored(checkpoint.path, store):
        if store:
            store.fetch(path)
        failure = grid.craft(one)
        if store and failure is None:
            store.keep(path)  # before the checkpoint goes: a node that dies meanwhile leaves one or the other
    if failure is not None or store:
        return failure, None
    return None, np.asarray(np.memmap(path, np.uint8, "r"))


def _trained(work: RayWork, owner: Any, poison: PoisonBytes | None) -> Record:
    grid, one = _opened(work, owner)
    store, path = Store.at(work.store), one.poison
    if path is not None:
        make_folder(path.parent)
        with claimed(path, wait=True, tidy=True):
            if not path.is_file() and poison is not None:
                with replacing(path) as temporary:
                    poison.tofile(temporary)
            elif not path.is_file() and store:
                store.fetch(path)
                if not path.is_file():  # else each cell would craft it again
                    raise StoreError(f"--store {work.store}: {socket.gethostname()} finds no poison {path.name} there")
    checkpoint = Checkpoint.beside(one.path, grid.checkpoint_every)
    make_folder(grid.out)
    with claimed(one.path, wait=True, tidy=True), mirrored(checkpoint.path, store):
        record = grid.run(replace(one, record=None))
        one.path.unlink(missing_ok=True)  # it goes to the driver
        return record


def clear(settings: RunSettings, run: str) -> None:
    """Remove the folder of a run from this node's cache, where it is."""
    folder = _folder(settings, run)
    taken = folder.with_name(f"{folder.name}-{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):  # this node has done nothing, or one that has the same cache was faster
        folder.rename(taken)
        shutil.rmtree(taken)


def _folder(settings: RunSettings, run: str) -> Path:
    return (settings.cache or cache_folder()) / "ray" / run


def _opened(work: RayWork, owner: Any) -> tuple[Grid, PlannedCell]:
    """The grid of one cell, in the folder of the run in this node's cache."""
    # Ray's own handler raises SystemExit in the task, which would pass for an error of the cell: let the process die,
    # so that the task runs again.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    folder = _folder(work.settings, work.run)
    settings = replace(work.settings, out=folder / "records", poisons=str(folder / "poisons"))
    grid, one = opened(work, settings, lambda answer: owner.tell.remote(work.name, *answer))
    grid.passes_on = _may_be_the_nodes
    return grid, one


class Owner:
    """The actor that owns the tasks of a run and keeps what they return until the driver has saved it.

    It outlives the driver: one that is started again by the same command finds here what runs and what is done.

    Args:
        cpus: of a task.
        gpus: of a task.
        retries: how often a task runs again whose process or node died, or that ended with a :class:`NodeFault`.
    """

    def __init__(self, cpus: float, gpus: float, retries: int) -> None:
        import ray

        options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus}
        options |= {"max_retries": retries, "retry_exceptions": [NodeFault]}
        options |= {"scheduling_strategy": "SPREAD"}  # else a task runs again where it has just failed
        self._craft = ray.remote(num_returns=2, **options)(craft)
        self._train = ray.remote(**options)(train)
        self._me = ray.get_runtime_context().current_actor
        self._running: dict[str, Any] = {}
        self._finished: dict[str, Record | Failure | None] = {}
        self._poisons: dict[str, Any] = {}
        self._where: dict[str, str] = {}
        self._news: list[tuple[Any, ...]] = []
        self._shares: dict[tuple[str, bool], tuple[Any, ...]] = {}  # by unit and whether it was resumed
        self._asked = time.monotonic()
        self._something = asyncio.Event()
        self._forsaken: asyncio.Task[None] | None = None

    async def known(self) -> tuple[dict[str, str | None], list[str]]:
        """The units that run or are done, with the place where they run, and the names of the poisons that are held."""
        if self._forsaken is None:
            self._forsaken = asyncio.ensure_future(self._end_when_forsaken())
        return {name: self._where.get(name) for name in (*self._running, *self._finished)}, list(self._poisons)

    async def hold(self, name: str, poison: PoisonBytes) -> None:
        """Keep a poison that the driver has."""
        import ray

        self._poisons[name] = ray.put(poison)

    async def drop(self, name: str) -> None:
        """Let a poison go that no cell needs any more."""
        self._poisons.pop(name, None)

    async def poison(self, name: str) -> list[Any]:
        """Where a poison's content is."""
        return [self._poisons[name]]

    async def craft(self, work: RayWork) -> None:
        """Begin to craft a poison."""
        failure, self._poisons[work.name] = self._craft.options(name=work.title).remote(work, self._me)
        self._begin(work.name, failure)

    async def train(self, work: RayWork, poison: str | None) -> None:
        """Begin to train a victim on the poison of that name."""
        task = self._train.options(name=work.title)
        self._begin(work.name, task.remote(work, self._me, self._poisons.get(poison) if poison else None))

    async def tell(self, name: str, kind: str, *rest: Any) -> None:
        """Take a message of a task. Only the last message about its progress is kept: the driver may be away for days.

        A share that an earlier run has done is kept beside it.
        """
        if kind == "share":
            self._shares[name, rest[1]] = name, kind, *rest
            return
        if kind == "begins":
            self._where[name] = rest[0]
            for resumed in (True, False):
                self._shares.pop((name, resumed), None)
        self._news.append((name, kind, *rest))

    async def take(self, saved: list[str]) -> tuple[list[tuple[Any, ...]], dict[str, Record | Failure | None]]:
        """What tasks have said, and what came of those that are done; waits a second for it.

        Args:
            saved: units whose outcome the driver has saved; they are forgotten.
        """
        self._asked = time.monotonic()
        for name in saved:
            self._finished.pop(name, None)
            self._where.pop(name, None)
        if not self._finished:
            self._something.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._something.wait(), _SECONDS_BETWEEN_TAKES)
        news, self._news, self._shares = [*self._news, *self._shares.values()], [], {}
        return news, dict(self._finished)

    def _begin(self, name: str, outcome: Any) -> None:
        self._running[name] = asyncio.ensure_future(self._finish(name, outcome))

    async def _finish(self, name: str, outcome: Any) -> None:
        try:
            self._finished[name] = await outcome
        except Exception as error:
            cause = getattr(error, "cause", None) or error  # of an error in a task; its own text is the traceback
            known = cause.failure if isinstance(cause, NodeFault) else None
            self._finished[name] = known or Failure(type(cause).__name__, first_line(cause), str(error))
        if isinstance(self._finished[name], Failure):
            self._poisons.pop(name, None)
        del self._running[name]
        self._something.set()

    async def _end_when_forsaken(self) -> None:
        import ray

        while self._running or time.monotonic() - self._asked < _FORSAKEN:
            await asyncio.sleep(_FORSAKEN / 60)
        ray.kill(self._me)

"""What a node of a Ray cluster does with a unit, without Ray: each node is a cache of its own in this process."""

import asyncio
import itertools
import logging
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from benchmark.core.checkpoints import Checkpoint
from benchmark.core.errors import Failure, UsageError
from benchmark.core.log import PACKAGES
from benchmark.grid.engines import node, ray_node, worker
from benchmark.grid.engines import store as stores
from benchmark.grid.engines.ray_node import NodeFault, Owner, RayWork
from benchmark.grid.engines.store import Store
from benchmark.grid.opening import open_grid
from benchmark.grid.runner import PlannedCell
from benchmark.grid.settings import RunSettings
from tests.grid.grids import ATTACK, SCENES
from tests.watchdog import in_no_time


class Died(BaseException):
    """The node is gone."""


@dataclass
class Heard:
    """The owner of a unit's task, as far as the task sees it."""

    said: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def tell(self) -> Any:
        return SimpleNamespace(remote=lambda *words: self.said.append(words))

    def shares(self, *, resumed: bool) -> list[float]:
        return [one[2] for one in self.said if one[1] == "share" and one[3] is resumed]


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """A process of a node hands on its messages and keeps its grid open; this one does not."""
    handlers = {name: logging.getLogger(name).handlers[:] for name in PACKAGES}
    progress = logging.getLogger("benchmark.core.progress").level
    yield
    if node._open is not None:
        node._open[1].close()
        node._open = None
    for name, kept in handlers.items():
        logging.getLogger(name).handlers[:] = kept
    logging.getLogger("benchmark.core.progress").setLevel(progress)


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    words: dict[str, Any] = {"attack": ATTACK, "defense": "none", "dataset": SCENES, "victim": "mini"}
    words |= {"surrogate": "mini", "epochs": 2, "batch_size": 16, "device": "cpu", "precision": "fp32"}
    return RunSettings(**words, cache=tmp_path / "driver", out=tmp_path / "out")


@pytest.fixture
def planned(settings: RunSettings) -> PlannedCell:
    with open_grid(settings) as grid:
        return next(one for one in grid.plan() if one.poison is not None)


def work(settings: RunSettings, one: PlannedCell, where: str, store: Store | None, *, crafts: bool) -> RayWork:
    """A unit as the node with that cache gets it."""
    assert settings.cache is not None
    return RayWork(
        name=str(one.poison) if crafts else one.key,
        crafts=crafts,
        title="a unit",
        cell=pickle.dumps(one.cell),
        task=None,
        settings=replace(settings, cache=settings.cache.with_name(where)),
        run="run",
        threads=1,
        suite="",
        store=None if store is None else f"file://{store.folder}",
    )


@pytest.fixture
def mirrored_at_once(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """A checkpoint is in the store before its stage goes on."""
    save = Checkpoint.save

    def and_wait(checkpoint: Checkpoint, state: dict[str, Any]) -> None:
        save(checkpoint, state)
        assert checkpoint.path is not None
        with in_no_time():
            while not store.files.exists(f"{store.folder}/{checkpoint.path.name.lstrip('.')}"):
                time.sleep(0.01)

    monkeypatch.setattr(stores, "_SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(Checkpoint, "save", and_wait)


def fails_with(error: BaseException, monkeypatch: pytest.MonkeyPatch, store: Store) -> Callable[[], None]:
    """No poison gets into the store, until the returned function is called."""
    put_file = store.files.put_file

    def put(path: str, there: str) -> None:
        if "checkpoint" not in there:
            raise error
        put_file(path, there)

    monkeypatch.setattr(store.files, "put_file", put)
    return lambda: monkeypatch.setattr(store.files, "put_file", put_file)


@pytest.mark.usefixtures("mirrored_at_once")
@pytest.mark.parametrize("again", ["here", "elsewhere"])
@pytest.mark.parametrize("error", [Died(), OSError("no route to the store")])
def test_a_poison_that_does_not_reach_the_store_keeps_its_checkpoint_there(
    error: BaseException,
    again: str,
    settings: RunSettings,
    planned: PlannedCell,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mend = fails_with(error, monkeypatch, store)
    with pytest.raises((Died, NodeFault)):
        ray_node.craft(work(settings, planned, "here", store, crafts=True), Heard())
    assert [Path(name).suffix for name in store.files.ls(store.folder, detail=False)] == [".checkpoint"]
    mend()
    heard = Heard()
    assert ray_node.craft(work(settings, planned, again, store, crafts=True), heard) == (None, None)
    assert planned.poison is not None
    assert [Path(name).name for name in store.files.ls(store.folder, detail=False)] == [planned.poison.name]
    if again == "elsewhere":
        assert heard.shares(resumed=True)


def test_a_poison_that_the_store_lacks_is_not_crafted_by_each_cell(
    settings: RunSettings, planned: PlannedCell, store: Store
) -> None:
    heard = Heard()
    with pytest.raises(NodeFault, match="finds no poison"):
        ray_node.train(work(settings, planned, "here", store, crafts=False), heard, None)
    assert not heard.shares(resumed=False)


@pytest.mark.parametrize("crafts", [True, False])
def test_an_error_is_the_nodes_fault_if_its_gpu_does_nothing_any_more(
    crafts: bool, settings: RunSettings, planned: PlannedCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a node whose GPU is gone would fail one cell after the other, each in no time."""
    works = threading.Event()

    def do(where: str) -> str:
        unit = work(replace(settings, device="cuda"), planned, where, None, crafts=crafts)
        if crafts:
            failure, _ = ray_node.craft(unit, Heard())
            assert failure is not None
            return failure.kind
        return ray_node.train(unit, Heard(), None).error["type"]

    monkeypatch.setattr(type(planned.cell.attack.attack), "craft", lambda *_: 1 / 0)
    monkeypatch.setattr("benchmark.grid.opening.resolve_device", lambda _: torch.device("cpu"))
    for module in ("runner", "engines.ray_node"):
        monkeypatch.setattr(f"benchmark.grid.{module}.computes", lambda _: works.is_set())
    works.set()
    assert do("here") == "ZeroDivisionError"
    works.clear()
    with pytest.raises(NodeFault) as raised:
        do("there")
    assert raised.value.failure.kind == "ZeroDivisionError"


def _caused_by(cause: Exception) -> UsageError:
    error = UsageError(f"a file cannot be read or written: {cause}")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("crafts", [True, False])
@pytest.mark.parametrize(
    "error",
    [
        OSError("No space left on device"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        _caused_by(OSError("Stale file handle")),
        _caused_by(SafetensorError("I/O error: File too large")),
    ],
)
def test_what_may_be_the_nodes_fault_leaves_the_task_so_that_it_runs_again(
    error: Exception, crafts: bool, settings: RunSettings, planned: PlannedCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    def do(heard: Heard) -> Any:
        unit = work(settings, planned, "here", None, crafts=crafts)
        return ray_node.craft(unit, heard)[0] if crafts else ray_node.train(unit, heard, None).status

    heard = Heard()
    with monkeypatch.context() as patched:
        # A victim's own attempt to craft its poison fails the same way.
        patched.setattr(type(planned.cell.attack.attack), "craft", fails)
        with pytest.raises(NodeFault) as raised:
            do(heard)
    failure = pickle.loads(pickle.dumps(raised.value)).failure  # it travels to the owner
    assert (failure.kind, failure.message) == (type(error).__name__, str(error))
    assert "in fails" in failure.where
    (told,) = [one[3] for one in heard.said if one[1] == "message"]
    assert told.startswith("a unit failed on ")
    assert told.endswith(str(error) or "MemoryError")
    assert do(Heard()) == (None if crafts else "done")  # the same process may get the unit again


def test_a_unit_on_a_cluster_tells_its_share_every_few_seconds(
    settings: RunSettings, planned: PlannedCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count()  # each look at the clock takes one
    monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    heard = Heard()
    failure, content = ray_node.craft(work(settings, planned, "here", None, crafts=True), heard)
    assert failure is None
    assert content is not None
    *told, end = [one for one in heard.said if one[1] == "share"]
    assert end[2] == 1
    assert len(told) > 1
    assert all(later[4] - earlier[4] >= 4 for earlier, later in itertools.pairwise(told))


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What an owner takes of Ray: tasks that are done at once, with their ``names``. Was an actor ``killed``?"""

    class Task:
        def options(self, name: str) -> "Task":
            made.names.append(name)
            return self

        async def remote(self, *_: Any) -> str:
            return "done"

    made: Any = SimpleNamespace(
        remote=lambda **_: lambda function: Task(),
        get_runtime_context=lambda: SimpleNamespace(current_actor="the owner"),
        kill=lambda actor: setattr(made, "killed", True),
        killed=False,
        names=[],
    )
    monkeypatch.setitem(sys.modules, "ray", made)
    monkeypatch.setattr(ray_node, "_SECONDS_BETWEEN_TAKES", 0.01)
    return made


def test_tasks_are_shown_by_the_titles_of_cells(ray: Any, settings: RunSettings, planned: PlannedCell) -> None:
    async def begin() -> None:
        await Owner(1, 0, 3).train(replace(work(settings, planned, "here", None, crafts=False), title="A × b"), None)

    asyncio.run(begin())
    assert ray.names == ["A × b"]


@pytest.mark.usefixtures("ray")
def test_an_owner_keeps_the_last_share_of_each_unit_alone() -> None:
    async def heard() -> list[tuple[Any, ...]]:
        owner = Owner(1, 0, 3)
        await owner.tell("one", "begins", "a node that dies")
        await owner.tell("one", "share", 0.9, False, 9.0)
        await owner.tell("one", "begins", "a node")
        await owner.tell("one", "share", 0.5, True, 0.0)
        for share in range(51, 100):
            await owner.tell("one", "share", share / 100, False, 1.0)
            await owner.tell("two", "share", share / 200, False, 1.0)
        news, _ = await owner.take([])
        assert await owner.take([]) == ([], {})
        return news

    assert asyncio.run(heard()) == [
        ("one", "begins", "a node that dies"),
        ("one", "begins", "a node"),
        ("one", "share", 0.5, True, 0.0),  # what the time left is counted from
        ("one", "share", 0.99, False, 1.0),
        ("two", "share", 0.495, False, 1.0),
    ]


@pytest.mark.usefixtures("ray")
def test_an_owner_keeps_the_error_that_a_node_had_at_last() -> None:
    failure = Failure("OSError", "No space left on device", "File ...")

    async def fault() -> None:
        raise NodeFault(failure)

    async def found() -> Any:
        owner = Owner(1, 0, 3)
        owner._begin("one", fault())
        return (await owner.take([]))[1]["one"]

    assert asyncio.run(found()) == failure


@pytest.mark.parametrize("begins", [True, False])
def test_what_is_done_waits_longer_than_a_weekend_for_a_driver_and_not_for_ever(
    begins: bool, ray: Any, settings: RunSettings, planned: PlannedCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, sleep = 0.0, asyncio.sleep

    async def passes(seconds: float) -> None:
        nonlocal now
        now += seconds
        await sleep(0)

    monkeypatch.setattr(ray_node, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(asyncio, "sleep", passes)

    async def days_until_the_end() -> float:
        owner = Owner(1, 0, 3)
        assert await owner.known() == ({}, [])
        if begins:
            await owner.train(work(settings, planned, "here", None, crafts=False), None)
        turns = 0
        while not ray.killed:
            assert now < 30 * 86400
            assert (turns := turns + 1) < 10_000
            await sleep(0)
        assert list(owner._finished.values()) == ["done"] * begins
        return now / 86400

    assert asyncio.run(days_until_the_end()) > 3

"""What a node of a Ray cluster does with a unit, without Ray: each node is a cache of its own in this process."""

import logging
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.core.checkpoints import Checkpoint
from benchmark.core.log import PACKAGES
from benchmark.grid.engines import node, ray_node
from benchmark.grid.engines import store as stores
from benchmark.grid.engines.ray_node import RayWork
from benchmark.grid.engines.store import Store, StoreError
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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.at(f"file://{tmp_path}/store")
    assert made is not None
    return made


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
    with pytest.raises((Died, StoreError)):
        ray_node.craft(work(settings, planned, "here", store, crafts=True), Heard())
    assert [Path(name).suffix for name in store.files.ls(store.folder, detail=False)] == [".checkpoint"]
    mend()
    heard = Heard()
    assert ray_node.craft(work(settings, planned, again, store, crafts=True), heard) == (None, None)
    assert planned.poison is not None
    assert [Path(name).name for name in store.files.ls(store.folder, detail=False)] == [planned.poison.name]
    if again == "elsewhere":
        assert heard.shares(resumed=True)

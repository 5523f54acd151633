"""What the driver of Ray tasks does next, on a cluster that is made up; its tasks' owner is the real one."""

import asyncio
import concurrent.futures
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import fsspec
import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

import attacks
from benchmark.core.errors import DamagedPoison, UsageError
from benchmark.core.spec import parse_spec
from benchmark.core.time_left import Pace
from benchmark.grid.board import Board
from benchmark.grid.engines import ENGINES, agenda, ray_node
from benchmark.grid.engines import ray as engine
from benchmark.grid.engines.base import Engine
from benchmark.grid.engines.ray import Ray, _ends_of
from benchmark.grid.engines.ray_node import RayWork
from benchmark.grid.engines.store import Store
from benchmark.grid.events import Events
from benchmark.grid.records import Record
from benchmark.grid.run import run
from benchmark.grid.runner import Grid
from benchmark.grid.settings import RunSettings
from benchmark.grid.units import Unit
from tests.grid.grids import SCENES
from tests.grid.test_pool import Poison, made
from tests.watchdog import in_no_time


def test_a_tracker_that_writes_files_is_refused_before_the_data_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_import_ray", lambda: None)
    with (
        pytest.raises(UsageError, match="nodes keep none"),
        Ray().prepared(RunSettings(track="tensorboard"), torch.device("cpu")),
    ):
        pass


class Died(BaseException):
    """The driver is killed."""


def trained() -> Record:
    """The record of a cell that is done."""
    recall = SimpleNamespace(recall_at_10=1.0)
    test = SimpleNamespace(mean_recall_at_10=1.0, image_to_text=recall, text_to_image=recall)
    seconds = {"train": 0.0, "evaluate": 0.0}
    return cast(Record, SimpleNamespace(status="done", last=SimpleNamespace(test=test), seconds=seconds))


@dataclass
class Cluster:
    """Stands for the module ``ray``: actors on a loop of their own, and tasks that a function of their work does.

    Attributes:
        loop: runs the actors.
        does: what a task returns; ``None`` lets it run on for ever.
        begun: the names of units, as their tasks begin.
        running: what tasks that run on will return.
        cleared: how often nodes were told to forget a run.
        resources: of each node.
    """

    loop: asyncio.AbstractEventLoop
    does: Callable[[RayWork], Any] = lambda work: None if work.crafts else trained()
    begun: list[str] = field(default_factory=list)
    running: dict[str, "asyncio.Future[Any]"] = field(default_factory=dict)
    cleared: int = 0
    resources: list[dict[str, float]] = field(default_factory=lambda: [{"CPU": 2.0}])
    actors: dict[str, Any] = field(default_factory=dict)
    exceptions: Any = field(
        default_factory=lambda: SimpleNamespace(
            RayError=type("RayError", (Exception,), {}), RayTaskError=type("RayTaskError", (Exception,), {})
        )
    )

    def remote(self, **_: Any) -> Callable[[Any], "Remote"]:
        return lambda what: Remote(self, what)

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": str(number), "NodeName": str(number), "Alive": True, "Resources": resources}
            for number, resources in enumerate(self.resources)
        ]

    def cluster_resources(self) -> dict[str, float]:
        return {name: sum(one.get(name, 0.0) for one in self.resources) for name in ("CPU", "GPU")}

    def get(self, reference: Any, timeout: float | None = None) -> Any:
        return reference.result(timeout) if isinstance(reference, concurrent.futures.Future) else reference

    def wait(self, tasks: Any, **_: Any) -> None:
        pass

    def kill(self, actor: Any) -> None:
        self.actors = {name: other for name, other in self.actors.items() if other is not actor}

    def put(self, value: Any) -> Any:
        return value

    def is_initialized(self) -> bool:
        return True

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(current_actor="the owner")


@dataclass
class Remote:
    """A class or function that Ray runs."""

    cluster: Cluster
    what: Any
    name: str = ""

    def options(self, name: str = "", **_: Any) -> "Remote":
        return Remote(self.cluster, self.what, name)

    def remote(self, *arguments: Any) -> Any:
        if isinstance(self.what, type):
            return self.cluster.actors.setdefault(self.name, Actor(self.cluster, self.what(*arguments)))
        if self.what is ray_node.clear:
            self.cluster.cleared += 1
            return "cleared"
        outcome = self._outcome(arguments[0])
        return (outcome, np.zeros(3, np.uint8)) if self.what is ray_node.craft else outcome

    def _outcome(self, work: RayWork) -> "asyncio.Future[Any]":
        self.cluster.begun.append(Path(work.name).name)
        outcome = asyncio.get_running_loop().create_future()
        if (done := self.cluster.does(work)) is not None or work.crafts:
            outcome.set_result(done)
        else:
            self.cluster.running[Path(work.name).name] = outcome
        return outcome


@dataclass
class Actor:
    """An actor, each of whose methods is called by ``remote``."""

    cluster: Cluster
    itself: Any

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.itself, name)
        return SimpleNamespace(
            remote=lambda *words: asyncio.run_coroutine_threadsafe(method(*words), self.cluster.loop)
        )


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    cluster = Cluster(loop)
    strategies = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
    for name, module in (
        ("ray", cluster),
        ("ray.exceptions", cluster.exceptions),
        ("ray.util", SimpleNamespace()),
        ("ray.util.scheduling_strategies", strategies),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(ray_node, "_SECONDS_BETWEEN_TAKES", 0.01)
    monkeypatch.setattr(engine, "pickle", SimpleNamespace(dumps=lambda cell: b""))
    monkeypatch.setattr(agenda, "settle", lambda grid, planned, record: record)
    yield cluster

    async def end() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run_coroutine_threadsafe(end(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def grid_of(poisons: Path, *, anew: bool = False) -> Grid:
    store = SimpleNamespace(folder=poisons, anew=anew)
    poisons.mkdir(exist_ok=True)
    return cast(Grid, SimpleNamespace(out=poisons.parent, poisons=store, device=torch.device("cpu")))


def unit(name: str, poison: Path | None = None, *, crafts: bool = False) -> Unit:
    planned = SimpleNamespace(cell=SimpleNamespace(title=lambda: name), key=name, record=None, poison=poison)
    if crafts:
        assert poison is not None
        return Poison(str(poison), cast(Any, planned), crafts=True)
    needs = None if poison is None or poison.is_file() else str(poison)
    return Unit(name, cast(Any, planned), crafts=False, needs=needs)


def do(
    how: Ray, grid: Grid, units: list[Unit], settings: RunSettings, tick: Callable[[], None] = lambda: None
) -> Board:
    """Do units; ``tick`` is called with every look at what the tasks say."""
    board = Board(units, Pace({}), Events())
    with how.started(grid, [one.planned for one in units if not one.crafts], settings) as crew:
        setattr(board, "tick", tick)  # noqa: B010
        crew.do(units, board)
    return board


def units_with(poison: Path) -> list[Unit]:
    return [unit("poison", poison, crafts=True), unit("cell", poison)]


def test_without_a_kept_poison_the_same_command_still_finds_the_tasks_of_a_dead_driver(
    cluster: Cluster, tmp_path: Path
) -> None:
    settings = RunSettings(poisons="off")

    def dies_once_the_cell_runs() -> None:
        if "cell" in cluster.begun:
            raise Died

    cluster.does = lambda work: None
    first = grid_of(tmp_path / "temporary 1", anew=True)
    with pytest.raises(Died):
        do(Ray(), first, units_with(first.poisons.folder / "poison"), settings, dies_once_the_cell_runs)
    assert cluster.begun == ["poison", "cell"]

    def ends_the_cell() -> None:
        if (outcome := cluster.running.pop("cell", None)) is not None:
            cluster.loop.call_soon_threadsafe(outcome.set_result, trained())

    second = grid_of(tmp_path / "temporary 2", anew=True)
    do(Ray(), second, units_with(second.poisons.folder / "poison"), settings, ends_the_cell)
    assert cluster.begun == ["poison", "cell"]
    assert (second.poisons.folder / "poison").is_file()


@pytest.mark.parametrize("error", [UsageError, KeyboardInterrupt])
def test_what_runs_ends_with_ctrl_c_and_not_with_an_error_of_the_driver(
    error: type[BaseException], cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.does = lambda work: None

    def fails_once_the_cell_runs() -> None:
        if "cell" in cluster.running:
            raise error("the disk is full")

    with pytest.raises(error):
        do(Ray(), grid_of(tmp_path / "poisons"), [unit("cell")], RunSettings(), fails_once_the_cell_runs)
    goes_on = error is UsageError
    assert bool(cluster.actors) == goes_on
    assert ("what runs in the cluster goes on; the same command finds it" in caplog.messages) == goes_on
    if goes_on:
        cluster.loop.call_soon_threadsafe(cluster.running.pop("cell").set_result, trained())
        board = do(Ray(), grid_of(tmp_path / "poisons"), [unit("cell")], RunSettings())
        assert board.counts()["done"] == 1
        assert cluster.begun == ["cell"]
        assert not cluster.actors


def test_the_same_command_is_refused_while_it_runs(cluster: Cluster, tmp_path: Path) -> None:
    """Two drivers would take each other's outcomes, and one of them wait for ever. Another command may run."""
    cluster.does = lambda work: None
    grid, refused = grid_of(tmp_path / "poisons"), list[str]()

    def started_again() -> None:
        if refused:
            return
        with in_no_time(), pytest.raises(UsageError) as error:
            do(Ray(), grid, [unit("cell")], RunSettings())
        refused.append(str(error.value))
        cluster.does = lambda work: trained()
        assert do(Ray(), grid, [unit("another")], RunSettings()).counts()["done"] == 1
        cluster.loop.call_soon_threadsafe(cluster.running.pop("cell").set_result, trained())

    board = do(Ray(), grid, [unit("cell")], RunSettings(), started_again)
    assert board.counts()["done"] == 1
    assert refused == ["--on ray: this command is running already, with records in the same folder"]


def crafting(found: list[bool], node: Path, cell: Callable[[], Record] = trained) -> Callable[[RayWork], Any]:
    """Tasks that keep a new poison in the store, and note whether one was there for them."""

    def does(work: RayWork) -> Any:
        store, path = Store.at(work.store), node / Path(work.name).name
        assert store is not None
        if not work.crafts:
            return cell()
        store.fetch(path, anew=True)
        found.append(path.is_file())
        path.parent.mkdir(exist_ok=True)
        path.write_text("new")
        store.keep(path)
        path.unlink()
        return None

    return does


@pytest.mark.parametrize("anew", [False, True])
def test_only_a_run_that_crafts_anew_leaves_the_poisons_of_the_store_aside(
    anew: bool, cluster: Cluster, tmp_path: Path
) -> None:
    found: list[bool] = []
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "poison").write_text("old")
    cluster.does = crafting(found, tmp_path / "node")
    grid = grid_of(tmp_path / "poisons", anew=anew)
    how = Ray(store=f"file://{tmp_path}/store")
    do(how, grid, units_with(grid.poisons.folder / "poison"), RunSettings())
    assert found == [not anew]
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["poison"]
    assert (tmp_path / "store" / "poison").read_text() == ("old" if anew else "new")


@pytest.mark.parametrize("poisons", ["off", "a folder"])
def test_what_a_failed_run_left_is_for_its_rerun_unless_it_keeps_no_poisons(
    poisons: str, cluster: Cluster, tmp_path: Path
) -> None:
    found: list[bool] = []
    cluster.does = crafting(found, tmp_path / "node", lambda: made("cell"))
    command = RunSettings(poisons=poisons)
    for settings in (command, replace(command, rerun="failed")):
        grid = grid_of(tmp_path / (settings.rerun if poisons == "off" else "the folder"), anew=True)
        how = Ray(store=f"file://{tmp_path}/store")
        do(how, grid, units_with(grid.poisons.folder / "poison"), settings)
    assert found == [False, poisons != "off"]
    assert cluster.cleared == (2 if poisons == "off" else 0)


def test_a_poison_that_the_store_has_is_not_copied_there_again(cluster: Cluster, tmp_path: Path) -> None:
    grid = grid_of(tmp_path / "poisons")
    poisons = [grid.poisons.folder / name for name in ("there already", "not yet")]
    for poison in poisons:
        attacks.Poison(None, ["word"], 8, "of the data").save(poison)
    store = Store.at(f"file://{tmp_path}/store")
    assert store is not None
    store.keep(poisons[0])
    before = (tmp_path / "store" / "there already").stat()
    do(Ray(store=f"file://{tmp_path}/store"), grid, [unit(one.name, one) for one in poisons], RunSettings())
    assert (tmp_path / "store" / "not yet").read_bytes() == poisons[1].read_bytes()
    after = (tmp_path / "store" / "there already").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("kept", [False, True])
def test_a_damaged_poison_goes_to_no_node(kept: bool, cluster: Cluster, tmp_path: Path) -> None:
    grid = grid_of(tmp_path / "poisons")
    path = grid.poisons.folder / "poison"
    attacks.Poison(None, ["word"], 8, "of the data").save(path)
    path.write_bytes(path.read_bytes().replace(b"word", b"ward"))
    how = Ray(store=f"file://{tmp_path}/store") if kept else Ray()
    with pytest.raises(
        DamagedPoison, match="does not match its SHA-256; remove it, and the same command crafts it anew"
    ):
        do(how, grid, [unit("cell", path)], RunSettings())
    assert not cluster.begun
    assert not (tmp_path / "store" / "poison").exists()


def test_nodes_look_for_a_folder_where_the_driver_does(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found: list[str | None] = []

    def does(work: Any) -> Any:
        found.append(work.store)
        return made("cell")

    cluster.does = does
    fsspec.register_implementation("bucket", type("Bucket", (MemoryFileSystem,), {"protocol": "bucket"}), clobber=True)
    for store in ("shared/store", "bucket://bucket/store"):
        do(Ray(store=store), grid_of(tmp_path / "poisons"), [unit("cell")], RunSettings())
    assert found == [str(tmp_path / "shared" / "store"), "bucket://bucket/store"]


@pytest.mark.parametrize("wrong", ["gpus_per_cell=1.5", "gpus_per_cell=0.00001", "gpus_per_cell=-1", "cpus_per_cell=0"])
def test_numbers_out_of_range_are_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong.partition("=")[0]):
        ENGINES.build(parse_spec(f"ray[{wrong}]"))


def test_how_long_a_task_has_worked_is_told(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that takes it over does not know when it began."""
    told: list[tuple[float, Any]] = []
    monkeypatch.setattr(Board, "reaches", lambda self, unit, share, **how: told.append((share, how)))

    def tells_and_ends() -> None:
        if "cell" not in cluster.running:
            return
        if told:
            cluster.loop.call_soon_threadsafe(cluster.running.pop("cell").set_result, trained())
        else:
            (owner,) = cluster.actors.values()
            for said in (("begins", "a node"), ("share", 0.5, False, 7.0)):
                owner.tell.remote("cell", *said).result()

    cluster.does = lambda work: None
    with in_no_time():
        do(Ray(), grid_of(tmp_path / "poisons"), [unit("cell")], RunSettings(), tells_and_ends)
    assert told == [(0.5, {"resumed": False, "seconds": 7.0})]


def test_the_cause_of_an_error_is_told() -> None:
    text = "The actor died:, \x1b[36mray::Owner()\x1b[39m\n  File 'x'\n\nModuleNotFoundError: No module 'benchmark'\n"
    assert _ends_of(RuntimeError(text)) == "The actor died:, ray::Owner() … ModuleNotFoundError: No module 'benchmark'"
    assert _ends_of(RuntimeError("one line")) == "one line"
    assert _ends_of(RuntimeError()) == "RuntimeError"


@pytest.mark.parametrize(
    ("nodes", "how", "slots"),
    [
        ([{"CPU": 1.0}, {"CPU": 3.0}, {"CPU": 4.0}], {"cpus_per_cell": 2}, 3),
        ([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 4.0}, {"CPU": 8.0}], {}, 3),
        ([{"CPU": 8.0, "GPU": 1.0}], {"gpus_per_cell": 0.1, "cpus_per_cell": 1}, 8),
        ([{"CPU": 16.0, "GPU": 1.0}], {"gpus_per_cell": 0.1}, 10),
        ([{"CPU": 2.0, "GPU": 4.0}], {"gpus_per_cell": 0}, 2),
        ([{"CPU": 2.0}, {}], {}, 2),
    ],
)
def test_so_many_cells_run_at_a_time_as_fit_on_single_nodes(
    nodes: list[dict[str, float]], how: dict[str, Any], slots: int, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.resources = nodes
    assert do(Ray(**how), grid_of(tmp_path / "poisons"), [unit("cell")], RunSettings()).workers == slots


@pytest.mark.parametrize(
    ("nodes", "how"),
    [
        ([{"CPU": 1.0}] * 4, {"cpus_per_cell": 2}),
        ([{"CPU": 8.0}, {"GPU": 8.0}], {}),
        ([{"CPU": 8.0, "GPU": 1.0}] * 2, {"gpus_per_cell": 2}),
        ([], {}),
    ],
)
def test_a_cell_that_fits_on_no_node_ends_the_run_before_it_begins(
    nodes: list[dict[str, float]], how: dict[str, Any], cluster: Cluster, tmp_path: Path
) -> None:
    cluster.resources = nodes
    with pytest.raises(UsageError, match="no node"):
        do(Ray(**how), grid_of(tmp_path / "poisons"), [unit("cell")], RunSettings())
    assert not cluster.begun


@pytest.mark.parametrize(
    ("gpus", "device", "sent"), [(1.0, "auto", "cuda"), (0.0, "auto", "auto"), (1.0, "cpu", "cpu")]
)
def test_a_node_whose_gpu_is_gone_does_not_take_its_cpu(
    gpus: float, device: str, sent: str, cluster: Cluster, tmp_path: Path
) -> None:
    devices: list[str] = []

    def does(work: RayWork) -> Record:
        devices.append(work.settings.device)
        return trained()

    cluster.does, cluster.resources = does, [{"CPU": 1.0, "GPU": gpus}]
    do(Ray(), grid_of(tmp_path / "poisons"), [unit("cell")], RunSettings(device=device))
    assert devices == [sent]


def test_nodes_that_join_later_are_filled(cluster: Cluster, tmp_path: Path) -> None:
    cluster.does = lambda work: None  # all run on
    cluster.resources = [{"CPU": 1.0}]
    units = [unit(str(number)) for number in range(50)]

    def joins_and_ends_all() -> None:
        if len(cluster.begun) == 17:
            cluster.resources = [{"CPU": 1.0}] * 9
        if len(cluster.begun) >= 25:
            for name in list(cluster.running):
                cluster.loop.call_soon_threadsafe(cluster.running.pop(name).set_result, trained())

    with in_no_time():
        do(Ray(), grid_of(tmp_path / "poisons"), units, RunSettings(), joins_and_ends_all)
    assert len(cluster.begun) == 50


@pytest.mark.parametrize(
    ("poisons", "asked", "anew"), [(None, False, False), ("off", False, True), (None, True, True), ("off", True, True)]
)
def test_an_engine_is_told_whether_poisons_are_crafted_anew(
    poisons: str | None, asked: bool, anew: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []

    class Told(Engine):
        def started(self, *_: Any) -> Any:
            raise AssertionError

        def run(self, grid: Grid, *_: Any) -> list[Record]:
            told.append(grid.poisons.anew)
            return []

    monkeypatch.setattr("benchmark.grid.run.choose_engine", lambda settings: Told())
    words: dict[str, Any] = {"attack": "clean", "defense": "none", "dataset": SCENES, "victim": "mini"}
    words |= {"out": tmp_path / "out", "cache": tmp_path / "cache", "batch_size": 16, "device": "cpu"}
    run(RunSettings(**words, poisons=poisons), poisons_anew=asked)
    assert told == [anew]


def test_a_poison_is_held_for_its_last_cell(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, remote = list[Any](), Remote.remote

    def noted(self: Remote, *arguments: Any) -> Any:
        if self.what is ray_node.train:
            given.append(arguments[2])
        return remote(self, *arguments)

    monkeypatch.setattr(Remote, "remote", noted)
    grid = grid_of(tmp_path / "poisons")
    path = grid.poisons.folder / "poison"
    # More cells than are handed out at a time: the last ones begin when the first have ended.
    units = [unit("poison", path, crafts=True), *(unit(str(number), path) for number in range(30))]
    with in_no_time():
        do(Ray(), grid, units, RunSettings())
    assert len(given) == 30
    assert all(poison is not None for poison in given)

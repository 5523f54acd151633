"""The engine of a Ray cluster, whose machines share no folder."""

import logging
import pickle
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch

from attacks import Poison
from benchmark.core.atomic_files import replacing
from benchmark.core.errors import DamagedPoison, Failure, UsageError, first_line, in_one_line
from benchmark.core.locks import claimed
from benchmark.grid.board import Board
from benchmark.grid.cells import content_key
from benchmark.grid.engines.agenda import Agenda
from benchmark.grid.engines.base import ENGINES, Crew, Engine, sole_run
from benchmark.grid.engines.ray_node import Owner, RayWork, clear
from benchmark.grid.engines.store import Store, StoreError
from benchmark.grid.provenance import suite
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import RunSettings
from benchmark.grid.units import Unit

_log = logging.getLogger(__name__)
_NAMESPACE = "unlearnable-bench"
_SECONDS_TO_ANSWER = 10.0
_RETRIES = 3  # of a unit whose process or node died, or whose error may be the node's fault
# Units in Ray's hands beyond those that run: none of its slots waits, and thousands of cells take no memory.
_AHEAD = 16
_SECONDS_TO_CLEAR = 60.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LEAST_GPU = 0.0001  # the smallest share that Ray gives
_ROUNDING = 1e-6  # of shares of a GPU: ten cells of a tenth fill it


@ENGINES.register("ray")
@dataclass(frozen=True)
class Ray(Engine):
    """A Ray cluster: each poison and each cell is a task of it, records come back to this process.

    Nodes need the suite and the data set, but no shared folder. ``gpus_per_cell`` is 1 where the cluster has GPUs,
    unless given. A ``store`` keeps poisons and checkpoints at a URL, and so what a node that dies has done of a cell.

    Raises:
        UsageError: a number out of range.
    """

    address: str = "auto"
    gpus_per_cell: float | None = None
    cpus_per_cell: int = 1
    store: str | None = None

    measures: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.cpus_per_cell < 1:
            raise UsageError(f"engine ray: cpus_per_cell must be at least 1, got {self.cpus_per_cell}")
        gpus = float(self.gpus_per_cell or 0)
        if not (_LEAST_GPU <= gpus <= 1 or (gpus >= 0 and gpus.is_integer())):
            raise UsageError(
                f"engine ray: gpus_per_cell must be a whole number or, for a share of a GPU, at least {_LEAST_GPU} and "
                f"at most 1, got {gpus:g}"
            )
        Store.at(self.store)
        _import_ray()

    def threads(self, device: torch.device) -> int | None:
        """As many as the CPUs that a cell gets."""
        return self.cpus_per_cell if device.type == "cpu" else None

    @contextmanager
    def prepared(self, settings: RunSettings, device: torch.device) -> Iterator[None]:
        """Refuse what no node can do; see :meth:`benchmark.grid.engines.base.Engine.prepared`."""
        if settings.track == "tensorboard":
            raise UsageError("--track tensorboard writes files, and Ray's nodes keep none; take wandb or trackio")
        yield

    @contextmanager
    def started(self, grid: Grid, planned: Sequence[PlannedCell], settings: RunSettings) -> Iterator[Crew]:
        """Connect to the cluster. The run's tasks end with the block or their owner, but go on after other errors."""
        if (store := Store.at(self.store)) is not None:
            store.require_writable()
        run = _run_name(grid, planned, settings)
        with sole_run(grid.out / f"ray-{run}", "ray"), _connected(self.address) as ray:

            def do(units: Sequence[Unit], board: Board) -> dict[str, Record]:
                """Do units as tasks of the cluster; see :class:`benchmark.grid.engines.base.Crew`."""
                driver = _Driver(ray, self, grid, run, settings, units, board)
                try:
                    failed = driver.run()
                    if not failed:  # a cell that failed has a checkpoint there
                        driver.clear()
                except (KeyboardInterrupt, ray.exceptions.RayTaskError):  # the second: a fault in the owner's own code
                    driver.close()
                    raise
                except Exception as error:
                    _log.warning("what runs in the cluster goes on; the same command finds it")
                    if isinstance(error, ray.exceptions.RayError):
                        raise UsageError(f"the Ray cluster failed: {_ends_of(error)}") from error
                    raise
                driver.close()
                return failed

            yield Crew(do)


class _Driver:
    """Hands units to the owner of the run's tasks, a few at a time, and saves what comes back."""

    def __init__(
        self,
        ray: ModuleType,
        engine: Ray,
        grid: Grid,
        run: str,
        settings: RunSettings,
        units: Sequence[Unit],
        board: Board,
    ) -> None:
        self._ray, self._engine, self._grid, self._board = ray, engine, grid, board
        self._agenda = Agenda(grid, units, board)
        self._in_flight: dict[str, Unit] = {}
        self._where: dict[str, str] = {}
        self._saved: list[str] = []
        self._held: set[str] = set()
        self._needing = Counter(unit.planned.poison for unit in units if not unit.crafts)
        store = Store.at(engine.store)
        # Nodes have other current folders, and perhaps other homes.
        self._run, self._url = run, store.folder if store is not None and store.is_folder else engine.store
        self._has_own_store = grid.poisons.anew and self._url is not None
        if self._has_own_store:
            self._url = f"{str(self._url).rstrip('/')}/run-{run}"
        self._store = Store.at(self._url)
        self._takes_leftovers = settings.poisons != "off"
        usual = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
        self._gpus = gpus = usual if engine.gpus_per_cell is None else engine.gpus_per_cell
        # For the nodes, without what this process alone needs. For auto, one whose GPU is gone would take the CPU.
        settings = replace(settings, device="cuda" if gpus and settings.device == "auto" else settings.device)
        self._settings = replace(settings, on="local", jobs=None, store=None, events=None, rerun="missing")
        board.workers = self._slots()
        if board.workers < 1:
            raise UsageError(
                f"no node of the cluster has the {engine.cpus_per_cell} CPUs and {gpus:g} GPUs of a cell; "
                f"nodes have {'; '.join(dict.fromkeys(map(_in_words, self._nodes()))) or 'nothing'}"
            )
        # The owner runs on the head node, without which the cluster is gone. So the loss of any other node, even the
        # driver's, does not end the owner.
        self._owner = (
            ray.remote(num_cpus=0, max_concurrency=1000)(Owner)
            .options(
                name=f"run {self._run}",
                namespace=_NAMESPACE,
                lifetime="detached",
                get_if_exists=True,
                resources={"node:__internal_head__": 0.001},
            )
            .remote(engine.cpus_per_cell, gpus, _RETRIES)
        )

    def run(self) -> dict[str, Record]:
        """Do all units; the records of cells that failed, by key."""
        known, held = self._ask("known")
        self._held = set(held)
        if not (known or held or self._takes_leftovers):
            self.clear()
        # What a driver that died has begun, and the poisons that it has seen done.
        self._in_flight = {_name(unit): unit for unit in self._agenda.waiting if _name(unit) in known}
        self._agenda.remove(self._in_flight.values())
        for name in self._in_flight:
            if known[name] is not None:
                self._hear(name, "begins", known[name])
        for unit in [unit for unit in self._agenda.waiting if unit.crafts and _name(unit) in self._held]:
            self._agenda.remove([unit])
            self._end(unit, None)
        while self._agenda.waiting or self._in_flight:
            for unit in self._agenda.take(self._board.workers + _AHEAD - len(self._in_flight)):
                self._begin(unit)
            news, finished = self._ask("take", self._saved)
            self._saved = []
            if not finished:
                self._board.workers = self._slots()  # nodes come and go
            for name, kind, *rest in news:
                self._hear(name, kind, *rest)
            for name, outcome in finished.items():
                if (ended := self._in_flight.pop(name, None)) is not None:
                    self._where.pop(name, None)
                    self._end(ended, outcome)
                self._saved.append(name)
            self._board.tick()
        return self._agenda.failed

    def clear(self) -> None:
        """Remove what the nodes' caches hold of the run, and what it alone has in the store."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        remote = self._ray.remote(num_cpus=0, max_retries=0)(clear)
        on_nodes = {
            remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                self._settings, self._run
            ): node["NodeName"]
            for node in self._ray.nodes()
            if node["Alive"]
        }
        self._ray.wait(list(on_nodes), num_returns=len(on_nodes), timeout=_SECONDS_TO_CLEAR)
        for task, node in on_nodes.items():
            try:
                self._ray.get(task, timeout=0)
            except self._ray.exceptions.RayError as error:  # the message itself names the kind of error
                _log.warning("what %s has of the run was not removed: %s", node, first_line(error))
        if self._has_own_store and self._store is not None:
            try:
                self._store.clear()
            except StoreError as error:
                _log.warning("what the store has of the run was not removed: %s", error)

    def close(self) -> None:
        """End the tasks and their owner."""
        with suppress(self._ray.exceptions.RayError):  # it is gone with its cluster
            self._ray.kill(self._owner)

    def _nodes(self) -> list[dict[str, float]]:
        """What each node that is alive has."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _slots(self) -> int:
        """How many cells the nodes hold at a time; none is on two nodes."""
        slots = 0
        for node in self._nodes():
            on_node = node.get("CPU", 0) / self._engine.cpus_per_cell
            if self._gpus:
                on_node = min(on_node, node.get("GPU", 0) / self._gpus)
            slots += int(on_node + _ROUNDING)
        return slots

    def _ask(self, method: str, *arguments: Any) -> Any:
        return self._ray.get(getattr(self._owner, method).remote(*arguments))

    def _begin(self, unit: Unit) -> None:
        cell = unit.planned.cell
        work = RayWork(
            name=_name(unit),
            crafts=unit.crafts,
            title=unit.title,
            cell=pickle.dumps(cell),
            task=self._board.task(unit),
            settings=self._settings,
            run=self._run,
            threads=self._engine.threads(self._grid.device),
            suite=suite(),
            store=self._url,
        )
        self._in_flight[work.name] = unit
        if unit.crafts:
            self._ask("craft", work)
        else:
            self._ask("train", work, self._hold(unit))

    def _hold(self, unit: Unit) -> str | None:
        """Make sure that the cluster has a cell's poison. Returns the poison's name, ``None`` for clean data.

        Raises:
            PoisonError: the poison here is damaged or cannot be read.
        """
        path = unit.planned.poison
        if path is None:
            return None
        if path.name not in self._held:
            if self._store is None or not self._store.has(path):
                _require_whole(path)
                if self._store is None:
                    self._ask("hold", path.name, np.asarray(np.memmap(path, np.uint8, "r")))
                else:
                    self._store.keep(path)
            self._held.add(path.name)
        return path.name

    def _hear(self, name: str, kind: str, *rest: Any) -> None:
        if kind == "message":
            _log.log(rest[0], "%s", rest[1])
            return
        unit = self._in_flight.get(name)
        if unit is None:
            return  # a late message: the unit has ended
        if kind == "begins":
            if self._where.get(name) == rest[0]:
                return  # known already: the message was meant for a driver that died
            if name in self._where:
                self._board.waits(unit, "it failed there, or its process or node died")
            self._where[name] = rest[0]
            self._board.begins(unit, rest[0])
        elif kind == "share" and name in self._where:
            self._board.reaches(unit, rest[0], resumed=rest[1], seconds=rest[2])

    def _end(self, unit: Unit, outcome: Record | Failure | None) -> None:
        if unit.crafts and outcome is None:
            self._held.add(_name(unit))
            if self._store is None:
                (reference,) = self._ask("poison", _name(unit))
                with claimed(Path(unit.name), wait=False, tidy=True) as ours:
                    if ours:  # else another run makes the same file here
                        with replacing(Path(unit.name)) as temporary:
                            self._ray.get(reference).tofile(temporary)
        for cell in self._agenda.ends(unit, outcome):
            poison = cell.planned.poison
            self._needing[poison] -= 1
            if poison is not None and poison.name in self._held and not self._needing[poison]:
                self._ask("drop", poison.name)


def _require_whole(path: Path) -> None:
    """Require that a poison's content is what was saved: each node would find the damage, and craft its own."""
    try:
        Poison.load(path)
    except DamagedPoison as error:
        raise DamagedPoison(f"{error}; remove it, and the same command crafts it anew") from error


def _in_words(node: dict[str, float]) -> str:
    return f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs"


def _run_name(grid: Grid, planned: Sequence[PlannedCell], settings: RunSettings) -> str:
    """The name of a run: by it, the same command on the same machine finds the tasks of an earlier driver."""
    # A temporary folder of poisons would name each driver another run. With --rerun, cells that failed go on.
    poisons = None if settings.poisons == "off" else str(grid.poisons.folder.absolute())
    where = [socket.gethostname(), str(grid.out.absolute()), poisons]
    command = replace(settings, events=None, rerun="missing").to_command()
    return content_key(where, command, [one.key for one in planned])[:12]


def _name(unit: Unit) -> str:
    """A unit's name in the cluster, which is the same wherever the driver keeps poisons."""
    return Path(unit.name).name


def _ends_of(error: BaseException) -> str:
    """The first and the last line of an error of Ray's: between them stand tracebacks and ids."""
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    return " … ".join(dict.fromkeys([lines[0], lines[-1]])) if lines else type(error).__name__


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster while the block runs; a connection that is there already stays.

    Raises:
        UsageError: no cluster at that address.
    """
    ray = _import_ray()
    if ray.is_initialized():
        yield ray
        return
    advice = "'ray start --head' starts one"
    try:
        host, colon, port = address.rpartition(":")
        if colon and "/" not in address and port.isdecimal():
            # Ray itself tries for a minute, and then ends the process.
            socket.create_connection((host, int(port)), _SECONDS_TO_ANSWER).close()
            advice = (
                f"if there is one, 'ray start --address={address}' makes this machine one of its nodes, as it must be"
            )
        before = signal.getsignal(signal.SIGTERM)
        ray.init(
            address=address,
            namespace=_NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
        if threading.current_thread() is threading.main_thread():
            # Ray's own handler would end the run's tasks at SIGTERM. Without it they go on, as after SIGKILL.
            signal.signal(signal.SIGTERM, before)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        said = first_line(error) if isinstance(error, OSError) else in_one_line(error)
        raise UsageError(f"no Ray cluster at '{address}' ({said}); {advice}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UsageError(f"--on ray needs Ray: pip install 'unlearnable-bench[ray]' ({error})") from error
    return ray

"""The engine of a Slurm cluster, whose nodes share a folder."""

import logging
import math
import pickle
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from benchmark.core.atomic_files import make_folder
from benchmark.core.errors import Failure, UsageError
from benchmark.grid.board import Board
from benchmark.grid.cells import content_key
from benchmark.grid.choices import pick_preset
from benchmark.grid.engines.agenda import Agenda
from benchmark.grid.engines.base import ENGINES, Crew, Engine, sole_run
from benchmark.grid.engines.node import Work
from benchmark.grid.engines.slurm_jobs import (
    Jobs,
    RefusedError,
    State,
    Submitted,
    import_submitit,
    is_alive,
    is_waiting,
)
from benchmark.grid.engines.slurm_node import Job, News
from benchmark.grid.provenance import suite
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import RunSettings
from benchmark.grid.units import Unit

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LOOKS = 1.0  # at files
_MOST_LOOKS_A_SECOND = 200.0  # at the two files of a job, on a file system that serves a whole cluster
_SECONDS_BETWEEN_STATES = 10.0  # asked of Slurm, which serves a whole cluster
_SECONDS_AFTER_REFUSAL = 60.0
_MOST_DEATHS = 3  # of a unit's jobs
_MOST_STALLS = 3  # times in a row that a job reaches its time limit without a new checkpoint
_MOST_JOBS = 1000  # in an array, as clusters are set up that say nothing else
_LEAST_HOURS = 0.1  # submitit hears of the limit 90 seconds before it
_OF_THE_CLUSTER = frozenset(("BOOT_FAIL", "NODE_FAIL", "PREEMPTED"))  # ends that say nothing of what the job did
_HELD = frozenset(("JobHeldAdmin", "JobHeldUser", "launch failed requeued held"))  # until somebody releases it
_NEVER = frozenset(("PartitionTimeLimit", "InvalidAccount", "InvalidQOS"))  # reasons to wait for ever
_USUAL = frozenset(("None", "Resources", "Priority", "BeginTime", "Dependency", "JobArrayTaskLimit"))


@ENGINES.register("slurm")
@dataclass(frozen=True)
class Slurm(Engine):
    """A Slurm cluster whose nodes share the folders of records and poisons: each poison and each cell is a job.

    A job gets ``cpus`` CPUs, ``gpus`` GPUs (0 or 1), ``memory`` GB and ``hours``. One that reaches this limit, is
    preempted or loses its node is queued again by Slurm, and goes on from its last checkpoint. At most ``jobs`` wait or
    run at a time.

    Raises:
        UsageError: a number out of range, no Slurm on this machine, or the package is missing.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus: int = 0
    cpus: int = 1
    memory: float | None = None
    hours: float = 4.0
    jobs: int = 100

    measures: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.gpus not in (0, 1):
            raise UsageError(f"engine slurm: a cell takes one GPU or none, got gpus={self.gpus}")
        if self.cpus < 1 or self.hours < _LEAST_HOURS or (self.memory is not None and self.memory <= 0):
            raise UsageError(f"engine slurm: cpus must be at least 1, hours at least {_LEAST_HOURS}, memory positive")
        if not 1 <= self.jobs <= _MOST_JOBS:
            raise UsageError(f"engine slurm: jobs must be from 1 to {_MOST_JOBS}, got {self.jobs}")
        import_submitit()

    def threads(self, device: torch.device) -> int | None:
        """As many as the CPUs that a cell gets."""
        return self.cpus

    def parameters(self) -> dict[str, Any]:
        """Of a job, as submitit names them."""
        asked = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "gpus_per_node": self.gpus or None,
            "mem": None if self.memory is None else f"{math.ceil(1024 * self.memory)}M",
        }
        return {
            "time": math.ceil(60 * self.hours),
            "cpus_per_task": self.cpus,
            "array_parallelism": self.jobs,
            "srun_args": [f"--cpus-per-task={self.cpus}"],
            **{name: value for name, value in asked.items() if value is not None},
        }

    @contextmanager
    def prepared(self, settings: RunSettings, device: torch.device) -> Iterator[None]:
        """Refuse what depends on GPUs elsewhere; see :meth:`benchmark.grid.engines.base.Engine.prepared`."""
        recipe = settings.recipe(pick_preset(settings.preset).recipe)
        if self.gpus and device.type == "cpu" and recipe.precision == "auto":
            raise UsageError(
                "--on slurm[gpus=1]: no GPU is here to choose a precision for; name it, as --precision bf16"
            )
        yield

    @contextmanager
    def started(self, grid: Grid, planned: Sequence[PlannedCell], settings: RunSettings) -> Iterator[Crew]:
        """The jobs of the run. Waiting jobs are cancelled when the block ends, running ones only after Ctrl-C."""
        # Without the engine's parameters: the run finds its earlier jobs even if, say, the partition has changed.
        command = replace(settings, on="local", jobs=None, events=None).to_command()
        run = content_key(command, [one.key for one in planned])[:12]
        folder = grid.out.absolute() / "slurm" / run
        if "%" in str(folder):
            raise UsageError(f"--on slurm: Slurm would read the % in the path {grid.out.absolute()} as a pattern")
        make_folder(folder)
        with sole_run(folder, "slurm"):
            jobs = Jobs(folder, f"unlearnable-{run}", self.parameters(), self.cpus)
            all_end = False
            try:
                yield Crew(lambda units, board: Driver(jobs, self, grid, settings, units, board).run())
            except KeyboardInterrupt:
                all_end = True
                raise
            finally:
                # After an error, jobs that run go on, and the same command finds them.
                if _cancelled(jobs, running=all_end) and all_end:
                    for job in jobs.submitted():
                        jobs.forget(job)


def _cancelled(jobs: Jobs, ids: Sequence[str] = (), *, running: bool = True) -> bool:
    """End jobs as :meth:`Jobs.cancel` does; says it if Slurm does not do so."""
    try:
        jobs.cancel(ids, running=running)
    except RefusedError as error:
        _log.warning("jobs named %s may go on: %s; the same command finds them", jobs.name, error)
        return False
    return True


class Driver:
    """Submits units as they can begin, and follows their jobs.

    Args:
        jobs: of this run.
        engine: says how many at a time.
        grid: keeps the records.
        settings: of the run.
        units: in order.
        board: shows every change.
    """

    def __init__(
        self, jobs: Jobs, engine: Slurm, grid: Grid, settings: RunSettings, units: Sequence[Unit], board: Board
    ) -> None:
        self._jobs, self._engine, self._board = jobs, engine, board
        self._agenda = Agenda(grid, units, board)
        self._settings = replace(
            settings,
            out=grid.out.absolute(),
            poisons=str(grid.poisons.folder.absolute()),
            # For auto, a job on a node whose GPU does not answer would take the CPU.
            device="cuda" if engine.gpus and settings.device == "auto" else settings.device,
            on="local",
            jobs=None,
            events=None,
            rerun="missing",
        )
        self._submitted: dict[str, Submitted] = {}
        self._deaths: Counter[str] = Counter()
        self._stillborn: list[str] = []  # jobs that died before they began, since one began last
        self._submit_from = self._ask_from = -math.inf
        self._at_once = _MOST_JOBS
        self._reasons: set[str] = set()
        self._warned = ""

    def run(self) -> dict[str, Record]:
        """Do all units; the records of cells that failed, by key.

        Raises:
            UsageError: Slurm refuses jobs, or would never start them, or they end before they begin; or a job met a
                full disk.
        """
        self._find()
        while self._agenda.waiting or self._submitted:
            now = time.monotonic()
            if now >= self._submit_from and len(self._stillborn) < _MOST_DEATHS:
                self._submit()
            self._hear()
            if now >= self._ask_from:
                self._ask_from = now + _SECONDS_BETWEEN_STATES
                self._look()
            self._board.tick()
            time.sleep(max(_SECONDS_BETWEEN_LOOKS, len(self._submitted) / _MOST_LOOKS_A_SECOND))
        return self._agenda.failed

    def _find(self) -> None:
        """Take over the jobs of a driver that died."""
        if not (found := self._jobs.submitted()):
            return
        while (states := self._states()) is None:
            self._board.tick()
            time.sleep(_SECONDS_BETWEEN_STATES)
        waiting = {unit.name: unit for unit in self._agenda.waiting}
        useless = []
        for job in found:
            work, alive = self._jobs.work_of(job), is_alive(states.get(job))
            unit = waiting.get(work.name)
            # With --poisons off, each driver has a temporary folder of poisons; that of the driver that died is gone.
            has_poison = work.settings.poisons == self._settings.poisons
            if unit is not None and ((alive and has_poison) or self._jobs.has_ended(job)):
                self._follow(job, waiting.pop(unit.name))
                self._agenda.remove([unit])
            elif alive:
                useless.append(job)
            else:
                self._jobs.forget(job)
        if useless and _cancelled(self._jobs, useless):
            for job in useless:
                self._jobs.forget(job)

    def _submit(self) -> None:
        units = self._agenda.take(min(self._engine.jobs - len(self._submitted), self._at_once))
        if not units:
            return
        try:
            ids = self._jobs.submit([self._job(unit) for unit in units])
        except RefusedError as error:
            self._agenda.put_back(units)
            # A cluster may limit how many jobs of somebody wait: half as many may be few enough.
            self._at_once = max(1, len(units) // 2)
            if len(units) > 1:
                return
            if not self._submitted:
                raise UsageError(f"--on slurm: {error}") from error
            self._warn(f"Slurm takes no more jobs at present: {error}")
            self._submit_from = time.monotonic() + _SECONDS_AFTER_REFUSAL
            return
        self._at_once = min(2 * self._at_once, _MOST_JOBS)
        for job, unit in zip(ids, units, strict=True):
            self._follow(job, unit)

    def _follow(self, job: str, unit: Unit) -> None:
        self._submitted[job] = Submitted(unit, News(self._jobs.folder / f"{job}.news"))

    def _job(self, unit: Unit) -> Job:
        work = Work(
            name=unit.name,
            crafts=unit.crafts,
            title=unit.title,
            cell=pickle.dumps(unit.planned.cell),
            task=self._board.task(unit),
            settings=self._settings,
            threads=self._engine.cpus,
            suite=suite(),
        )
        return Job(work, unit.planned.record)

    def _hear(self) -> None:
        """Take what jobs tell, and what they end with."""
        for job, one in list(self._submitted.items()):
            for kind, *rest in one.news.read():
                if job not in self._submitted:
                    break  # the line before ended its unit
                self._take(job, one, kind, *rest)
            if job in self._submitted and self._jobs.has_ended(job):
                outcome = self._jobs.outcome(job)
                del self._submitted[job]
                self._agenda.ends(one.unit, outcome)
                self._jobs.forget(job)

    def _take(self, job: str, one: Submitted, kind: str, *rest: Any) -> None:
        if kind == "message":
            _log.log(rest[0], "%s", rest[1])
        elif kind == "refused":
            self._jobs.forget(job)  # so that the same command submits its unit again
            raise UsageError(f"--on slurm: job {job} ended: {rest[0]}")
        elif kind == "begins":
            self._requeued(job, one, "its job began again")
            if job not in self._submitted:
                return
            self._stillborn, one.begun, one.seconds, one.resumed = [], True, 0.0, 0.0
            one.heard = time.monotonic()
            self._board.begins(one.unit, f"job {job} on {rest[0]}")
            self._count()
        elif kind == "share" and one.begun:
            share, resumed, one.seconds = rest
            one.heard = time.monotonic()
            one.resumed = share if resumed else one.resumed
            self._board.reaches(one.unit, share, resumed=resumed, seconds=one.seconds)

    def _requeued(self, job: str, one: Submitted, reason: str) -> None:
        """Slurm has queued a job again. If it gets no further between two time limits, its unit fails."""
        # One that was preempted has worked for less, and may have had bad luck. Within a step a job tells nothing.
        worked = one.seconds + time.monotonic() - one.heard
        if one.begun and worked > 3600 * self._engine.hours / 2:
            one.stalls = 0 if one.resumed > one.furthest else one.stalls + 1
            one.furthest = max(one.furthest, one.resumed)
        self._stops(one, reason)
        if one.stalls >= _MOST_STALLS:
            _cancelled(self._jobs, [job])
            del self._submitted[job]
            self._jobs.forget(job)
            limits = f"its job {job} reached its time limit {_MOST_STALLS + 1} times without a new checkpoint"
            message = f"{limits}; give it more than hours={self._engine.hours:g}"
            self._agenda.ends(one.unit, Failure("NoProgress", message, ""))

    def _stops(self, one: Submitted, reason: str) -> None:
        if one.begun:
            one.begun = False
            self._board.waits(one.unit, reason)
            self._count()

    def _count(self) -> None:
        """Tell the board how many jobs run. It estimates the time left as if that number stayed the same."""
        self._board.workers = max(1, sum(one.begun for one in self._submitted.values()))

    def _states(self) -> dict[str, State] | None:
        """What Slurm says of the jobs; nothing while it does not answer, as while it restarts."""
        self._jobs.refresh()
        try:
            return self._jobs.states()
        except RefusedError as error:
            self._warn(f"Slurm does not answer at present: {error}")
            return None

    def _warn(self, said: str) -> None:
        """Warn of what may be so for hours, unless that was the last warning of this kind."""
        if said != self._warned:
            self._warned = said
            _log.warning("%s", said)

    def _look(self) -> None:
        """Ask Slurm for the jobs, and see what it has ended or queued again."""
        if (states := self._states()) is None:
            return
        for job, one in list(self._submitted.items()):
            state = states.get(job)
            if not is_alive(state):
                # Not the first time: its outcome may not have come through yet.
                if one.missed:
                    self._died(job, one, state)
                one.missed = True
                continue
            one.missed = False
            if is_waiting(state):
                self._requeued(job, one, "its job was queued again")
                if job in self._submitted:
                    self._waits(job, state.reason)
        # Not while one runs: it may be the bad luck of a single node.
        if len(self._stillborn) >= _MOST_DEATHS and all(is_waiting(states.get(job)) for job in self._submitted):
            raise UsageError(f"--on slurm: jobs end before they begin; {self._stillborn[-1]}; see {self._jobs.folder}")

    def _waits(self, job: str, reason: str) -> None:
        if reason in _NEVER:
            raise UsageError(f"--on slurm: job {job} would never start: {reason}")
        if reason not in _USUAL | self._reasons:
            if reason in _HELD:
                _log.warning("job %s waits until it is released (scontrol release %s): %s", job, job, reason)
            else:
                _log.info("job %s waits: %s", job, reason)
            self._reasons.add(reason)

    def _died(self, job: str, one: Submitted, state: State | None) -> None:
        """A job is gone without an outcome: submit its unit again, which goes on from the checkpoint."""
        unit, begun = one.unit, one.begun
        how = "is gone" if state is None else f"ended as {state.name}"
        del self._submitted[job]
        self._jobs.forget(job)
        if not begun:  # the fault of a node, or of the environment of all, and not of the unit
            self._stillborn.append(f"job {job} {how}")
            if len(self._stillborn) == _MOST_DEATHS:
                _log.warning("jobs end before they begin; no more are submitted until one begins")
        self._deaths[unit.name] += begun and (state is None or state.name not in _OF_THE_CLUSTER)
        if self._deaths[unit.name] >= _MOST_DEATHS:
            advice = "; give it more by memory=GB" if state is not None and state.name == "OUT_OF_MEMORY" else ""
            message = f"its job {job} {how}, like the {_MOST_DEATHS - 1} before it{advice}; see {self._jobs.folder}"
            self._agenda.ends(unit, Failure("JobDied", message, ""))
        else:
            _log.warning("job %s %s; another goes on with %s", job, how, unit.title)
            self._stops(one, f"its job {how}")
            self._agenda.put_back([unit])

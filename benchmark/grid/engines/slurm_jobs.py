"""Jobs of a Slurm cluster: submitting them, what state they are in, what came of them."""

import io
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from benchmark.core.errors import Failure, UsageError, first_line
from benchmark.core.threads import worker_variables
from benchmark.grid.engines.node import Work
from benchmark.grid.engines.slurm_node import Job, News
from benchmark.grid.records import Record
from benchmark.grid.units import Unit

COMMANDS = ("sbatch", "srun", "squeue", "scancel")
_ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT".split()
)
_TIMEOUTS = 1000  # time limits that a job may reach; at each it goes on from its last checkpoint


class RefusedError(Exception):
    """Slurm does not take a job; the message says why."""


class State(NamedTuple):
    """A job's state in Slurm, such as ``PENDING``, and the reason why the job waits, such as ``Resources``."""

    name: str
    reason: str


def is_alive(state: State | None) -> bool:
    """Whether a job waits or runs; one without a state is gone."""
    return state is not None and state.name not in _ENDED


def is_waiting(state: State | None) -> TypeGuard[State]:
    """Whether a job waits."""
    return state is not None and state.name == "PENDING"


@dataclass
class Submitted:
    """A job whose outcome is not there yet.

    Attributes:
        unit: what it does.
        news: what it tells.
        begun: whether the board knows that it runs.
        missed: whether it had ended without an outcome when Slurm was last asked.
        seconds: for which it had worked, since it last began, when it last told how far it is.
        heard: when it told that or that it begins, on this process's clock.
        resumed: share of the unit that was done when it last began.
        furthest: the highest ``resumed`` of a job that reached its time limit; −1 if it never has.
        stalls: how often in a row it has reached its time limit without ``resumed`` beyond ``furthest``.
    """

    unit: Unit
    news: News
    begun: bool = False
    missed: bool = False
    seconds: float = 0.0
    heard: float = 0.0
    resumed: float = 0.0
    furthest: float = -1.0
    stalls: int = 0


class Jobs:
    """The jobs of a run.

    Args:
        folder: what submitit keeps there, logs among it; all nodes see it.
        name: by which Slurm lists them; also an attribute.
        parameters: of every job, as submitit names them.
        threads: that libraries take in them.
    """

    def __init__(self, folder: Path, name: str, parameters: Mapping[str, Any], threads: int) -> None:
        self.folder, self.name, self._submitit = folder, name, import_submitit()
        variables = worker_variables(threads)
        # Variables that sbatch reads for what is named here.
        always = "CLUSTERS JOB_NAME REQUEUE NO_REQUEUE SIGNAL ARRAY_INX TIMELIMIT CPUS_PER_TASK".split()
        named = [one.upper() for one in parameters if one in ("partition", "account", "qos", "gpus_per_node")]
        self._named = [f"SBATCH_{one}" for one in (*always, *named, *(["MEM_"] if "mem" in parameters else []))]
        self._executor = self._submitit.SlurmExecutor(
            folder, max_num_timeout=_TIMEOUTS, python=f"{shlex.quote(sys.executable)} -P"
        )
        self._executor.update_parameters(
            job_name=name,
            setup=[f"export {key}={shlex.quote(value)}" for key, value in variables.items()],
            additional_parameters={"requeue": True},
            **parameters,
        )

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """Submit jobs as an array, in order; their ids.

        Raises:
            RefusedError: Slurm does not take them.
            UsageError: ``sbatch`` names no job, as one that a site has put in its place.
        """
        try:
            with _without("SLURM_", "SUBMITIT_", *self._named), redirect_stderr(io.StringIO()):
                return [job.job_id for job in self._executor.submit_array(jobs)]
        except self._submitit.core.utils.FailedJobError as error:
            for left in self.folder.glob("[0-9a-f]" * 32 + ".pkl"):  # what the jobs would have done
                left.unlink(missing_ok=True)
            raise RefusedError("; ".join(str(error).splitlines()) or "sbatch failed") from error
        except self._submitit.core.utils.FailedSubmissionError as error:
            raise UsageError(f"--on slurm: {first_line(error)}") from error

    def submitted(self) -> list[str]:
        """The ids of the jobs that were not forgotten."""
        return sorted(path.name.removesuffix("_submitted.pkl") for path in self.folder.glob("*_submitted.pkl"))

    def work_of(self, job: str) -> Work:
        """What a job does."""
        done: Job = self._submitit.SlurmJob(self.folder, job).submission().function
        return done.work

    def states(self) -> dict[str, State]:
        """The state of every job that Slurm still knows, by id.

        Raises:
            RefusedError: Slurm does not answer.
        """
        form = ["--noheader", "--array", "--states=all", "--format=%i|%T|%r"]
        fields = (line.split("|", 2) for line in self._asked("squeue", *form).splitlines())
        return {one: State(name, reason) for one, name, reason in fields}

    def has_ended(self, job: str) -> bool:
        """Whether a job's outcome is there."""
        return self._result(job).exists()

    def outcome(self, job: str) -> Record | Failure | None:
        """What a job ended with: a record, what went wrong, or nothing for a poison."""
        kind, outcome = self._submitit.core.utils.pickle_load(self._result(job))
        if kind == "success":
            return outcome
        return Failure("JobFailed", outcome.strip().splitlines()[-1], outcome)

    def refresh(self) -> None:
        """Make a network's file system show what nodes have written: it caches a folder until that changes."""
        self.folder.chmod(self.folder.stat().st_mode & 0o7777)

    def forget(self, job: str) -> None:
        """Remove what lies there of a job besides its logs."""
        for path in (self.folder / f"{job}_submitted.pkl", self._result(job), self.folder / f"{job}.news"):
            path.unlink(missing_ok=True)

    def cancel(self, ids: Sequence[str] = (), *, running: bool = True) -> None:
        """Cancel the jobs of these ids, or all jobs; if ``running`` is false, only those that wait.

        Raises:
            RefusedError: Slurm does not answer.
        """
        self._asked("scancel", *([] if running else ["--state=PENDING"]), *ids)

    def _result(self, job: str) -> Path:
        return self.folder / f"{job}_0_result.pkl"

    def _asked(self, command: str, *arguments: str) -> str:
        """What a command of Slurm's says of the jobs of this run."""
        ours = [f"--name={self.name}", f"--user={os.getuid()}"]
        # Defaults of the user's own, such as SQUEUE_PARTITION, would leave jobs out, and SLURM_CLUSTERS would ask other
        # clusters than the one that jobs are submitted to.
        with _without("SLURM_", "SQUEUE_", "SCANCEL_"):
            done = subprocess.run(
                [command, *arguments, *ours], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
            )
        if done.returncode:
            raise RefusedError("; ".join(done.stderr.split("\n")).strip("; ") or f"{command} failed")
        return done.stdout


@contextmanager
def _without(*prefixes: str) -> Iterator[None]:
    """Remove environment variables with these prefixes while the block runs, except ``SLURM_CONF``.

    With them, Slurm's commands would do other than they are asked to. Slurm sets some of them if this process is part
    of a job itself. Others are the user's own defaults, which would take precedence over the options in a job's script.
    """
    ours = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(prefixes)}
    if "SLURM_CONF" in ours:
        os.environ["SLURM_CONF"] = ours["SLURM_CONF"]
    try:
        yield
    finally:
        os.environ.update(ours)


def import_submitit() -> Any:
    """Submitit, on a machine where jobs can be submitted.

    Raises:
        UsageError: Slurm's commands or the package are missing.
    """
    if missing := [command for command in COMMANDS if shutil.which(command) is None]:
        raise UsageError(f"--on slurm: this machine has no {missing[0]}; run it where you submit jobs")
    try:
        import submitit
    except ImportError as error:
        raise UsageError(f"--on slurm needs submitit: pip install 'unlearnable-bench[slurm]' ({error})") from error
    return submitit

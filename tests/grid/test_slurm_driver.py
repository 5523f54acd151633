"""What the driver of Slurm jobs does next, with jobs that are made up; and what the engine asks for."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from benchmark.core.errors import Failure, UsageError, as_usage_error
from benchmark.core.spec import parse_spec
from benchmark.core.time_left import Pace
from benchmark.grid.board import Board
from benchmark.grid.engines import ENGINES, agenda, slurm, slurm_jobs, slurm_node
from benchmark.grid.engines.slurm import Driver, Slurm
from benchmark.grid.engines.slurm_jobs import RefusedError, State
from benchmark.grid.engines.slurm_node import News
from benchmark.grid.events import Events
from benchmark.grid.runner import Grid
from benchmark.grid.settings import RunSettings
from benchmark.grid.units import Unit
from tests.grid.grids import run
from tests.grid.test_pool import made, poison, unit
from tests.watchdog import in_no_time

CRAFTED = ()
Script = Callable[[str, int], Any]
JobOf = Callable[..., slurm_node.Job]


def well(name: str, number: int) -> Any:
    """Every job ends well."""
    return CRAFTED if name.startswith("poison") else made(name)


class Scripted:
    """Jobs that a function of the unit's name and of its jobs so far decides: an outcome, or a state of Slurm's.

    Slurm refuses the first submissions, and says nothing when asked for states the first times. Which jobs tell that
    they begin is another function.
    """

    def __init__(
        self,
        folder: Path,
        script: Script = well,
        *,
        refusals: int = 0,
        outages: int = 0,
        begins: Callable[[str, int], bool] = lambda *_: True,
    ) -> None:
        self.folder, self._script, self._refusals, self._begins = folder, script, refusals, begins
        self._outages = outages
        self.arrays: list[list[str]] = []
        self.jobs: dict[str, tuple[str, Any]] = {}
        self.left: dict[str, str] = {}
        self.poisons, self.cancelled = str(Path().absolute()), list[str]()

    def submit(self, jobs: Sequence[Any]) -> list[str]:
        self._refusals -= 1
        if self._refusals >= 0:
            raise RefusedError("no more")
        self.arrays.append([job.work.name for job in jobs])
        return [self.add(job.work.name, f"{len(self.arrays)}_{place}") for place, job in enumerate(jobs)]

    def add(self, name: str, job: str) -> str:
        earlier = sum(other == name for other, _ in self.jobs.values())
        self.jobs[job] = name, self._script(name, earlier + 1)
        self.left[job] = name
        if self._begins(name, earlier + 1):
            self.begin(job)
        return job

    def begin(self, job: str) -> None:
        News(self.folder / f"{job}.news").tell(("begins", "node"))

    def end(self, name: str, outcome: Any) -> None:
        self.jobs |= {job: (name, outcome) for job, (other, _) in self.jobs.items() if other == name}

    def submitted(self) -> list[str]:
        return list(self.left)

    def work_of(self, job: str) -> Any:
        return SimpleNamespace(name=self.left[job], settings=SimpleNamespace(poisons=self.poisons))

    def cancel(self, ids: Sequence[str], *, running: bool) -> None:
        assert running
        self.cancelled += ids

    def states(self) -> dict[str, State]:
        self._outages -= 1
        if self._outages >= 0:
            raise RefusedError("no answer")
        said = {job: outcome for job, (_, outcome) in self.jobs.items()}
        return {job: one if isinstance(one, State) else State("RUNNING", "None") for job, one in said.items()}

    def has_ended(self, job: str) -> bool:
        return not isinstance(self.jobs[job][1], State)

    def outcome(self, job: str) -> Any:
        outcome = self.jobs[job][1]
        return None if outcome == CRAFTED else outcome

    def refresh(self) -> None:
        pass

    def forget(self, job: str) -> None:
        self.left.pop(job)
        (self.folder / f"{job}.news").unlink(missing_ok=True)


class EndsOnceAsked(Scripted):
    """Its only job, that of a cell, ends once Slurm has been asked for states."""

    def states(self) -> dict[str, State]:
        found = super().states()
        self.end("cell", made("cell"))
        return found


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_SECONDS_BETWEEN_LOOKS", "_SECONDS_BETWEEN_STATES", "_SECONDS_AFTER_REFUSAL"):
        monkeypatch.setattr(slurm, name, 0.0)
    monkeypatch.setattr(slurm, "import_submitit", lambda: None)
    monkeypatch.setattr(slurm, "pickle", SimpleNamespace(dumps=lambda cell: b""))
    monkeypatch.setattr(agenda, "settle", lambda grid, planned, record: record)


def do(jobs: Scripted, units: list[Unit], most: int = 100, events: Path | None = None) -> dict[str, str]:
    """What the records of cells say."""
    grid = SimpleNamespace(out=Path(), poisons=SimpleNamespace(folder=Path()), provenance={"command": ""})
    board = Board(units, Pace({}), Events(events))
    records = Driver(cast(Any, jobs), Slurm(jobs=most), cast(Grid, grid), RunSettings(), units, board).run()
    return {name: record.error["message"] for name, record in records.items()}


def test_what_can_begin_is_one_array_with_poisons_first(tmp_path: Path) -> None:
    units = [poison("poison 1"), poison("poison 2"), unit("of 1", "poison 1"), unit("clean"), unit("of 2", "poison 2")]
    jobs = Scripted(tmp_path)
    assert do(jobs, units) == {name: f"made {name}" for name in ("of 1", "clean", "of 2")}
    assert jobs.arrays == [["poison 1", "poison 2", "clean"], ["of 1", "of 2"]]
    assert not jobs.left


def slow_until(last: str, folder: Path, **how: Any) -> Scripted:
    """Jobs that end well, that of the unit "slow" once that of another is submitted."""

    def script(name: str, number: int) -> Any:
        if name == last:
            jobs.end("slow", made("slow"))
        return State("RUNNING", "None") if name == "slow" else well(name, number)

    jobs = Scripted(folder, script, **how)
    return jobs


def test_no_more_jobs_wait_and_run_than_are_allowed(tmp_path: Path) -> None:
    jobs = slow_until("d", tmp_path)
    assert len(do(jobs, [unit(name) for name in ("slow", "a", "b", "c", "d")], most=2)) == 5
    assert jobs.arrays == [["slow", "a"], ["b"], ["c"], ["d"]]


def test_files_of_many_jobs_are_looked_at_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, slept = 0, 0.0

    class Counted(Scripted):
        def has_ended(self, job: str) -> bool:
            nonlocal looks
            looks += 1
            if looks == 3000:
                self.jobs = {job: (name, made(name)) for job, (name, _) in self.jobs.items()}
            return super().has_ended(job)

    def sleep(seconds: float) -> None:
        nonlocal slept
        slept += seconds

    monkeypatch.setattr(slurm, "time", SimpleNamespace(monotonic=lambda: slept, sleep=sleep))
    jobs = Counted(tmp_path, lambda *_: State("RUNNING", "None"), begins=lambda *_: False)
    assert len(do(jobs, [unit(str(number)) for number in range(500)], most=500)) == 500
    assert looks <= 200 * slept + 500


def test_a_unit_whose_job_ends_without_an_outcome_is_submitted_again(tmp_path: Path) -> None:
    def script(name: str, number: int) -> Any:
        if name == "deadly" or (name == "once" and number == 1):
            return State("OUT_OF_MEMORY", "None")
        return well(name, number)

    jobs, events = Scripted(tmp_path, script), tmp_path / "events"
    said = do(jobs, [unit("deadly"), unit("once"), unit("well")], events=events)
    assert "ended as OUT_OF_MEMORY, like the 2 before it; give it more by memory=GB; see" in said.pop("deadly")
    assert said == {"once": "made once", "well": "made well"}
    assert sorted(name for array in jobs.arrays for name in array) == ["deadly"] * 3 + ["once"] * 2 + ["well"]
    states = [one["state"] for one in map(json.loads, events.read_text().splitlines()) if one.get("name") == "once"]
    assert states == ["running", "waiting", "running", "failed"]  # as records without scores are


def test_a_poison_that_cannot_be_crafted_fails_its_cells_alone(tmp_path: Path) -> None:
    def script(name: str, number: int) -> Any:
        return Failure("E", "no such poison", "") if name == "poison" else well(name, number)

    jobs = Scripted(tmp_path, script)
    said = do(jobs, [poison("poison"), unit("one", "poison"), unit("two", "poison"), unit("clean")])
    assert said == {"one": "no such poison", "two": "no such poison", "clean": "made clean"}
    assert jobs.arrays == [["poison", "clean"]]


def test_jobs_that_end_before_they_begin_end_the_run(tmp_path: Path) -> None:
    jobs = Scripted(tmp_path, lambda *_: State("FAILED", "None"), begins=lambda *_: False)
    with pytest.raises(UsageError, match="jobs end before they begin"):
        do(jobs, [unit(str(number)) for number in range(50)], most=5)
    assert len(jobs.arrays) == 1


class OneBadNode(Scripted):
    """All jobs end before they begin, but one that runs, and ends when all others are gone."""

    def forget(self, job: str) -> None:
        super().forget(job)
        if list(self.left.values()) == ["runs"]:
            (last,) = self.left
            if not self._begins("runs", 1):
                self.begin(last)
            self.end("runs", made("runs"))


@pytest.mark.parametrize("has_begun", [True, False])
def test_jobs_that_end_before_they_begin_do_not_end_one_that_runs(has_begun: bool, tmp_path: Path) -> None:
    def script(name: str, number: int) -> Any:
        return State("RUNNING" if name == "runs" else "FAILED", "None")

    jobs, events = (
        OneBadNode(tmp_path, script, begins=lambda name, _: has_begun and name == "runs"),
        tmp_path / "events",
    )
    with pytest.raises(UsageError, match="jobs end before they begin"):
        do(jobs, [unit(name) for name in ("runs", *"abcd")], events=events)
    told = [(one["name"], one["state"]) for one in map(json.loads, events.read_text().splitlines()) if "name" in one]
    assert told[-1] == ("runs", "failed")  # as records without scores are
    assert [sorted(array) for array in jobs.arrays] == [[*"abcd", "runs"]] + [[*"abcd"]] * (not has_begun)


def test_that_jobs_end_before_they_begin_is_not_the_fault_of_their_unit(tmp_path: Path) -> None:
    def script(name: str, number: int) -> Any:
        return State("NODE_FAIL", "None") if name == "unlucky" and number <= 3 else well(name, number)

    jobs = Scripted(tmp_path, script, begins=lambda name, number: name != "unlucky" or number > 3)
    names = ["unlucky", *"abcdef"]
    assert do(jobs, [unit(name) for name in names], most=2) == {name: f"made {name}" for name in names}


def test_jobs_that_would_never_start_end_the_run(tmp_path: Path) -> None:
    jobs = Scripted(tmp_path, lambda *_: State("PENDING", "PartitionTimeLimit"), begins=lambda *_: False)
    with pytest.raises(UsageError, match="would never start: PartitionTimeLimit"):
        do(jobs, [unit("cell")])


def test_what_slurm_does_not_take_is_tried_again_while_other_jobs_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no more"):
        do(Scripted(tmp_path, refusals=2), [unit("one"), unit("two")])
    jobs = slow_until("one", tmp_path, refusals=3)
    jobs.add("slow", "9")
    assert len(do(jobs, [unit("slow"), unit("one"), unit("two")])) == 3
    assert [name for array in jobs.arrays for name in array] == ["one", "two"]


def test_half_as_many_are_submitted_where_slurm_takes_no_more(tmp_path: Path) -> None:
    names = list("abcdefghijklmnop")
    jobs = Scripted(tmp_path, refusals=3)
    assert len(do(jobs, [unit(name) for name in names])) == 16
    assert [len(array) for array in jobs.arrays] == [2, 4, 8, 2]  # and more again as it takes them


def test_what_slurm_does_not_do_for_hours_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = list[int]()

    class Full(Scripted):
        def submit(self, jobs: Sequence[Any]) -> list[str]:
            asked.append(len(jobs))
            if len(asked) == 9:
                self.end("slow", made("slow"))
            return super().submit(jobs)

    jobs = Full(tmp_path, lambda name, _: State("RUNNING", "None") if name == "slow" else well(name, 1), refusals=9)
    jobs.add("slow", "9")
    assert len(do(jobs, [unit("slow"), *map(unit, "abcd")])) == 5
    assert asked == [4, 2, *[1] * 8, 2, 1]  # no call that cannot help
    assert caplog.messages.count("Slurm takes no more jobs at present: no more") == 1


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL", "BOOT_FAIL"])
def test_what_happens_to_the_cluster_is_no_fault_of_the_unit(state: str, tmp_path: Path) -> None:
    def script(name: str, number: int) -> Any:
        return State(state, "None") if number <= 5 else well(name, number)

    assert do(Scripted(tmp_path, script), [unit("unlucky")]) == {"unlucky": "made unlucky"}


def test_who_holds_a_job_is_told_how_to_release_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    held = State("PENDING", "launch failed requeued held")
    do(EndsOnceAsked(tmp_path, lambda *_: held, begins=lambda *_: False), [unit("cell")])
    assert "job 1_0 waits until it is released (scontrol release 1_0): launch failed requeued held" in caplog.messages


@pytest.mark.parametrize("outages", [0, 3])
def test_the_jobs_of_a_driver_that_died_are_taken_over(outages: int, tmp_path: Path) -> None:
    def script(name: str, number: int) -> Any:
        return State("FAILED", "None") if (name, number) == ("dead", 1) else well(name, number)

    jobs = Scripted(tmp_path, script, outages=outages)
    for place, name in enumerate(["ended", "dead", "of another run", "ended"]):
        jobs.add(name, str(place))
    said = do(jobs, [unit("ended"), unit("dead"), unit("new")])
    assert said == {name: f"made {name}" for name in ("ended", "dead", "new")}
    assert jobs.arrays == [["dead", "new"]]
    assert not jobs.left


@pytest.mark.parametrize("kept", [True, False])
def test_jobs_whose_poisons_went_with_their_driver_end(kept: bool, tmp_path: Path) -> None:
    """With ``--poisons off``, each driver has a folder of its own for them."""

    def script(name: str, number: int) -> Any:
        return State("RUNNING", "None") if (name, number) == ("runs", 1) else well(name, number)

    jobs = slow_until("clean", tmp_path) if kept else Scripted(tmp_path, script)
    runs = "slow" if kept else "runs"
    jobs.add(runs, "1")
    jobs.add("done", "2")
    jobs.poisons = jobs.poisons if kept else "/a folder that is gone"
    with in_no_time():
        said = do(jobs, [unit(runs), unit("done"), unit("clean")])
    assert said == {name: f"made {name}" for name in (runs, "done", "clean")}
    assert jobs.arrays == [["clean"] if kept else ["runs", "clean"]]
    assert jobs.cancelled == ([] if kept else ["1"])
    assert not jobs.left


@pytest.mark.parametrize("error", [UsageError, RuntimeError, KeyboardInterrupt])
def test_jobs_that_run_end_with_ctrl_c_alone(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Scripted(tmp_path, lambda *_: State("RUNNING", "None"))
    jobs.add("one", "1")
    cancelled: list[bool] = []
    monkeypatch.setattr(jobs, "cancel", lambda ids, *, running: cancelled.append(running))
    monkeypatch.setattr(slurm, "Jobs", lambda *_: jobs)
    grid = cast(Grid, SimpleNamespace(out=tmp_path))
    with pytest.raises(error), Slurm().started(grid, [], RunSettings()):
        raise error
    assert cancelled == [error is KeyboardInterrupt]  # at least those that wait
    assert bool(jobs.left) == (error is not KeyboardInterrupt)


def test_jobs_that_slurm_does_not_end_are_kept_in_mind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RefusedError("no answer")

    jobs = Scripted(tmp_path, lambda *_: State("RUNNING", "None"))
    jobs.add("one", "1")
    monkeypatch.setattr(jobs, "cancel", refuse)
    monkeypatch.setattr(jobs, "name", "unlearnable-1", raising=False)
    monkeypatch.setattr(slurm, "Jobs", lambda *_: jobs)
    grid = cast(Grid, SimpleNamespace(out=tmp_path))
    with pytest.raises(KeyboardInterrupt), Slurm().started(grid, [], RunSettings()):
        raise KeyboardInterrupt
    assert list(jobs.left) == ["1"]
    assert "jobs named unlearnable-1 may go on: no answer; the same command finds them" in caplog.messages


def test_a_folder_that_slurm_would_read_as_a_pattern_is_refused(tmp_path: Path) -> None:
    grid = cast(Grid, SimpleNamespace(out=tmp_path / "50%attack"))
    with pytest.raises(UsageError, match="would read the % in the path"), Slurm().started(grid, [], RunSettings()):
        pass
    assert not list(tmp_path.iterdir())


def test_variables_of_the_users_own_change_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(Exception):
        pass

    class Executor:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def update_parameters(self, **_: Any) -> None:
            pass

        def submit_array(self, _: Any) -> Any:
            (tmp_path / f"{0:032x}.pkl").touch()
            found.update(os.environ)
            raise Refused("a limit")

    found: dict[str, str] = {}
    core = SimpleNamespace(utils=SimpleNamespace(FailedJobError=Refused))
    monkeypatch.setattr(slurm_jobs, "import_submitit", lambda: SimpleNamespace(SlurmExecutor=Executor, core=core))
    squeue = tmp_path / "squeue"
    squeue.write_text(
        '#!/bin/sh\necho "$@" > "$0.asked"\necho "1|RUNNING|${SQUEUE_PARTITION:-${SLURM_CLUSTERS:-None}}"\n'
    )
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    own = "SQUEUE_PARTITION SBATCH_PARTITION SBATCH_QOS SBATCH_JOB_NAME SBATCH_CLUSTERS SLURM_CLUSTERS SLURM_JOB_ID"
    for name in (*own.split(), "LOGNAME"):
        monkeypatch.setenv(name, "mine")
    jobs = slurm_jobs.Jobs(tmp_path, "unlearnable-1", {"partition": "day"}, 1)
    assert jobs.states() == {"1": State("RUNNING", "None")}
    assert f"--user={os.getuid()}" in (tmp_path / "squeue.asked").read_text().split()
    with pytest.raises(RefusedError, match="a limit"):
        jobs.submit([])
    # The engine names a partition, but no QOS: that is the user's to choose.
    assert {name for name in found if name.startswith(("SBATCH_", "SLURM_"))} == {"SBATCH_QOS"}
    assert os.environ["SBATCH_PARTITION"] == "mine"
    assert not list(tmp_path.glob("*.pkl"))


def test_an_sbatch_that_names_no_job_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unclear(RuntimeError):
        pass

    def submit_array(_: Any) -> None:
        raise Unclear('Could not make sense of sbatch output "welcome"\nJob instance will not')

    executor = SimpleNamespace(update_parameters=lambda **_: None, submit_array=submit_array)
    utils = SimpleNamespace(FailedJobError=KeyError, FailedSubmissionError=Unclear)
    submitit = SimpleNamespace(SlurmExecutor=lambda *_, **__: executor, core=SimpleNamespace(utils=utils))
    monkeypatch.setattr(slurm_jobs, "import_submitit", lambda: submitit)
    with pytest.raises(UsageError, match=r'^--on slurm: Could not make sense of sbatch output "welcome"$'):
        slurm_jobs.Jobs(tmp_path, "unlearnable-1", {}, 1).submit([])


def test_news_are_read_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "news"
    job, driver = News(path), News(path)
    assert driver.read() == []
    job.tell(("begins", "node"))
    job.tell(("share", 0.5, True))
    assert driver.read() == [["begins", "node"], ["share", 0.5, True]]
    with path.open("a") as file:
        file.write('["message", 30, "ä')
    assert driver.read() == []
    with path.open("a") as file:
        file.write('"]\n')
    assert driver.read() == [["message", 30, "ä"]]


def test_a_line_in_which_a_job_died_hides_nothing(tmp_path: Path) -> None:
    """Slurm queues the job again under the same number, so that it goes on in the same file."""
    path = tmp_path / "news"
    job, driver = News(path), News(path)
    job.tell(("begins", "one node"))
    with path.open("a") as file:
        file.write('["share", 0.')
    assert driver.read() == [["begins", "one node"]]
    job.tell(("begins", "another"))
    assert driver.read() == [["begins", "another"]]


class EndedError(BaseException):
    pass


@pytest.fixture
def job_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobOf]:
    """Makes a job that crafts so, in this process; where it would end the process, it raises :class:`EndedError`."""

    def end(code: int) -> None:
        raise EndedError

    def made(craft: Callable[[Any], Any], device: str = "auto") -> slurm_node.Job:
        monkeypatch.setattr(slurm_node, "opened", lambda *_: (SimpleNamespace(craft=craft), None))
        return slurm_node.Job(cast(Any, SimpleNamespace(crafts=True, settings=RunSettings(device=device))), None)

    environment = SimpleNamespace(paths=SimpleNamespace(folder=tmp_path), job_id="1", USR_SIG="USR2")
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(JobEnvironment=lambda: environment))
    monkeypatch.setattr(os, "_exit", end)
    before = signal.signal(signal.SIGUSR2, lambda *_: None)  # submitit's handler, which a job wraps
    yield made
    signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize("error", [SystemExit(-1), subprocess.TimeoutExpired("scontrol", 60)])
def test_a_job_that_is_queued_again_ends_at_once(error: BaseException, job_of: JobOf) -> None:
    """What submitit raises then is no error of the poison or the cell."""

    def craft(one: Any) -> Failure:
        try:
            signal.raise_signal(signal.SIGUSR2)
        except (SystemExit, subprocess.TimeoutExpired):
            return Failure("of the cell", "", "")
        raise AssertionError

    def handle(*_: Any) -> None:
        raise error

    signal.signal(signal.SIGUSR2, handle)
    with pytest.raises(EndedError):
        job_of(craft)()


@pytest.mark.parametrize(("device", "works"), [("auto", False), ("cuda", True), ("cuda", False)])
def test_a_job_fails_its_unit_unless_its_gpu_does_nothing_any_more(
    device: str, works: bool, job_of: JobOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the job ends without an outcome, and the driver submits the unit again."""
    monkeypatch.setattr(slurm_node, "computes", lambda _: works)
    job = job_of(lambda one: 1 / 0, device)
    if device == "cuda" and not works:
        with pytest.raises(EndedError):
            job()
    else:
        failure = job()
        assert isinstance(failure, Failure)
        assert failure.kind == "ZeroDivisionError"


def test_a_job_that_meets_a_full_disk_ends_the_run_and_fails_nothing(tmp_path: Path, job_of: JobOf) -> None:
    def craft(one: Any) -> None:
        with as_usage_error("cannot write there"):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with pytest.raises(EndedError):
        job_of(craft)()
    jobs = Scripted(tmp_path, lambda *_: State("RUNNING", "None"), begins=lambda *_: False)
    jobs.add("cell", "1")
    with pytest.raises(UsageError, match="job 1 ended: cannot write there: Disk quota exceeded"):
        do(jobs, [unit("cell")])
    assert not jobs.left


def test_jobs_ask_for_what_the_engine_names() -> None:
    engine = ENGINES.build(parse_spec("slurm[partition=long,gpus=1,hours=1.51,memory=1.5,jobs=300]"))
    assert isinstance(engine, Slurm)
    assert engine.parameters() == {
        "partition": "long",
        "gpus_per_node": 1,
        "time": 91,
        "mem": "1536M",
        "cpus_per_task": 1,
        "array_parallelism": 300,
        "srun_args": ["--cpus-per-task=1"],
    }


def test_the_precision_of_gpus_that_are_elsewhere_has_to_be_named() -> None:
    cpu = torch.device("cpu")
    with pytest.raises(UsageError, match="--precision"), Slurm(gpus=1).prepared(RunSettings(), cpu):
        pass
    for engine, settings in ((Slurm(gpus=1), RunSettings(precision="bf16")), (Slurm(gpus=0), RunSettings())):
        with engine.prepared(settings, cpu):
            pass


@pytest.mark.parametrize("wrong", ["gpus=2", "cpus=0", "hours=0", "memory=0", "jobs=0", "jobs=1001"])
def test_numbers_out_of_range_are_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong.partition("=")[0]):
        ENGINES.build(parse_spec(f"slurm[{wrong}]"))


@pytest.mark.parametrize(
    ("commands", "said"), [((), "this machine has no sbatch"), (slurm_jobs.COMMANDS, "'unlearnable-bench[slurm]'")]
)
def test_what_is_missing_here_is_one_line(
    commands: Sequence[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(slurm, "import_submitit", slurm_jobs.import_submitit)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "submitit", None)
    for command in commands:
        (tmp_path / command).touch(0o755)
    assert run(tmp_path / "out", "--on", "slurm", attack="clean", defense="none") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_a_job_that_slurm_queues_again_waits(tmp_path: Path) -> None:
    events = tmp_path / "events"
    do(EndsOnceAsked(tmp_path, lambda *_: State("PENDING", "BeginTime")), [unit("cell")], events=events)
    states = [one["state"] for one in map(json.loads, events.read_text().splitlines()) if one.get("name") == "cell"]
    assert states == ["running", "waiting", "failed"]  # as records without scores are


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize(
    ("hours", "checkpoints", "fails"),
    [
        (3.9, [0.0] * 4, True),
        (3.9, [0.0, 0.2, 0.2, 0.2, 0.2, 0.9], True),
        (3.9, [0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.2], False),
        (0.9, [0.0] * 9, False),  # preempted
    ],
)
def test_a_unit_that_gets_no_further_within_its_time_fails(
    hours: float, checkpoints: list[float], fails: bool, tells: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is four hours. A job may reach it within a step, and tell nothing of it."""
    now = [0.0]
    monkeypatch.setattr(slurm, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _: None))

    class Limited(Scripted):
        begun = 0

        def begin(self, job: str) -> None:
            super().begin(job)
            news, share = News(self.folder / f"{job}.news"), checkpoints[self.begun]
            news.tell(("share", share, True, 0.0))
            if tells:
                news.tell(("share", share + 0.05, False, 3600 * hours))
            self.begun += 1

        def states(self) -> dict[str, State]:
            """Each time that it is asked, Slurm has just queued the job again, which then begins."""
            found = super().states()
            now[0] += 0 if tells else 3600 * hours
            for job in list(self.left):
                if self.begun < len(checkpoints):
                    self.begin(job)
                else:
                    self.end("cell", made("cell"))
            return found

    jobs = Limited(tmp_path, lambda *_: State("PENDING", "BeginTime"))
    failed = do(jobs, [unit("cell")])
    said = "its job 1_0 reached its time limit 4 times without a new checkpoint; give it more than hours=4"
    assert (failed == {"cell": said}) is fails
    assert jobs.cancelled == (["1_0"] if fails else [])


def test_a_job_that_got_no_further_while_no_driver_listened_fails_its_unit(tmp_path: Path) -> None:
    jobs = Scripted(tmp_path, lambda *_: State("RUNNING", "None"), begins=lambda *_: False)
    jobs.add("cell", "1")
    news = News(tmp_path / "1.news")
    for _ in range(6):
        news.tell(("begins", "node"))
        news.tell(("share", 0.05, False, 3600 * 3.9))
    (said,) = do(jobs, [unit("cell")]).values()
    assert said.startswith("its job 1 reached its time limit 4 times")
    assert jobs.cancelled == ["1"]


def test_what_a_job_had_done_before_and_since_when_it_works_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Resumed(Scripted):
        def begin(self, job: str) -> None:
            super().begin(job)
            News(self.folder / f"{job}.news").tell(("share", 0.9, True, 7.0))

    told: list[tuple[float, Any]] = []
    monkeypatch.setattr(Board, "reaches", lambda self, unit, share, **how: told.append((share, how)))
    do(Resumed(tmp_path), [unit("cell")])
    assert told == [(0.9, {"resumed": True, "seconds": 7.0})]

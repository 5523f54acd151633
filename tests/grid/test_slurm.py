"""A real Slurm cluster of two nodes: the records of one process, whatever ends a job, a node or the driver.

Set up on a fresh machine by ``tests/tools/slurm_tests.sh``.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmark.grid.records import load_records
from tests.grid.grids import left_over, results, run
from tests.grid.test_ray import GRID, ROOT, records_of, start, told

pytestmark = pytest.mark.slurm
EPOCHS = 6


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def queue() -> dict[str, str]:
    """The states of the jobs that have not ended, by id."""
    lines = slurm("squeue", "--noheader", "--array", "--format=%i|%T").splitlines()
    return dict(line.split("|") for line in lines)


def until(true: Callable[[], bool], seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def running() -> dict[str, str]:
    """The nodes of the jobs that run, by id."""
    lines = slurm("squeue", "--noheader", "--array", "--states=running", "--format=%i|%N").splitlines()
    return dict(line.split("|") for line in lines)


def cut_off(node: str) -> None:
    """Kill all that runs on a node, its daemon too, as if its power were cut, and wait until Slurm has seen it."""
    names = {f"SLURMD_NODENAME={node}".encode(), f"NODE={node}".encode()}
    theirs = set[int]()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if names & set((process / "environ").read_bytes().split(b"\0")):
                parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
                watches = Path(f"/proc/{parent}/comm").read_text().startswith("slurmstepd")
                theirs |= {int(process.name), *([int(parent)] if watches else [])}
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none can report what befell another
        for process_id in theirs:
            os.kill(process_id, number)
    until(lambda: "DOWN" in slurm("scontrol", "show", "node", node))


def power_on(node: str) -> None:
    subprocess.run(["slurmd", "-N", node], check=True, env={**os.environ, "NODE": node})
    until(lambda: "State=IDLE " in slurm("scontrol", "show", "node", node))


def hurry(job: str) -> None:
    """Start a job at once that Slurm has queued again: it would wait for two minutes."""
    until(lambda: queue().get(job) == "PENDING")
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now")


@pytest.fixture(scope="module")
def note(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("note") / "note"


@pytest.fixture(scope="module")
def grid(note: Path) -> dict[str, Any]:
    """Twelve cells, three of which train slowly, so that they can be killed in the middle."""
    return {**GRID, "defense": f"cutout,random-swap,paced[note={note},wait=3]"}


@pytest.fixture(scope="module")
def of_one_process(grid: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process without Slurm makes of the grid."""
    out = tmp_path_factory.mktemp("grid")
    assert start(out, **grid).wait() == 0
    return results(out)


def test_jobs_make_what_one_process_makes(grid: dict[str, Any], of_one_process: dict[str, Any], tmp_path: Path) -> None:
    out, events = tmp_path / "out", tmp_path / "events"
    driver = start(out, "--on", "slurm[partition=day]", "--jobs", "3", "--events", str(events), **grid)
    nodes = set[str]()
    while driver.poll() is None:
        nodes |= set(running().values())
        time.sleep(0.5)
    assert driver.wait() == 0
    assert nodes == {"one", "two"}
    records = load_records(out)
    assert len(records) == 12
    assert results(out) == of_one_process
    assert not left_over(out)
    assert {record.provenance["threads"] for record in records} == {1}
    crafted = [one["title"] for one in told(events, "poison", "done")]
    assert len(crafted) == len(set(crafted)) == 2
    jobs = {one["where"].split()[1] for kind in ("cell", "poison") for one in told(events, kind, "running")}
    assert len(jobs) == 14
    assert any("_" in job for job in jobs)  # an array
    assert not list(out.glob("slurm/*/*.pkl"))  # nothing but logs
    assert not queue()


@pytest.mark.parametrize("end", ["job", "node"])
def test_a_grid_loses_nothing_to_a_job_or_node_that_is_killed(
    end: str, grid: dict[str, Any], of_one_process: dict[str, Any], tmp_path: Path
) -> None:
    out, events = tmp_path / "out", tmp_path / "events"
    driver = start(out, "--on", "slurm", "--jobs", "3", "--events", str(events), **grid)
    until(lambda: "paced" in "".join(one["title"] for one in told(events, "cell", "running")))
    slow = next(one for one in told(events, "cell", "running") if "paced" in one["title"])
    job = slow["where"].split()[1]
    node = running()[job]
    if end == "job":
        slurm("scancel", "--signal=KILL", job)
        assert driver.wait() == 0
    else:
        cut_off(node)
        hurry(job)
        assert driver.wait() == 0
        power_on(node)
    assert records_of(results(out)) == records_of(of_one_process)
    # A job that is killed is gone, and another does its work; a job whose node dies is queued again by Slurm.
    begun = [one["where"].split()[1] for kind in ("cell", "poison") for one in told(events, kind, "running")]
    assert (len(begun), begun.count(job)) == (15, 1 if end == "job" else 2)
    assert not left_over(out)
    until(lambda: not queue())


class Paced:
    """A run whose second victim trains slowly, with a note of every epoch that begins.

    Attributes:
        out: the folder of records.
    """

    def __init__(self, out: Path, note: Path) -> None:
        self.out, self._note, self.events = out, note, out.with_name("events")
        self._note.write_text("")
        self._grid = {"attack": "clean", "defense": f"paced[note={note},wait=2]", "epochs": EPOCHS}

    def start(self, *engine: str) -> "subprocess.Popen[bytes]":
        grid: dict[str, Any] = self._grid
        return start(self.out, *engine, "--events", str(self.events), **grid)

    def epochs(self) -> int:
        return len(self._note.read_text().splitlines())

    def job(self) -> str | None:
        where = [one["where"] for one in told(self.events, "cell", "running") if "paced" in one["title"]]
        return str(where[0].split()[1]) if where else None


@pytest.fixture(scope="module")
def expected(note: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process without Slurm makes of the slow run."""
    paced = Paced(tmp_path_factory.mktemp("one") / "out", note)
    assert paced.start().wait() == 0
    assert paced.epochs() == EPOCHS
    return records_of(results(paced.out))


@pytest.mark.parametrize("end", ["scancel", "step", "preemption", "limit", "driver", "ctrl-c"])
def test_what_is_ended_in_the_middle_goes_on_from_its_checkpoint(
    end: str, note: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    paced = Paced(tmp_path / "out", note)
    driver = paced.start("--on", "slurm")
    until(lambda: paced.epochs() >= 3 and paced.job() is not None)
    job = str(paced.job())
    if end == "scancel":
        slurm("scancel", "--signal=KILL", job)
    elif end == "step":  # as for want of memory
        slurm("scancel", "--signal=KILL", f"{job}.0")
    elif end == "preemption":
        slurm("scontrol", "requeue", job)
        hurry(job)
    elif end == "limit":  # the signal that Slurm sends before the time limit
        slurm("scancel", "--signal=USR2", job)
        hurry(job)
    else:
        driver.send_signal(signal.SIGKILL if end == "driver" else signal.SIGINT)
        assert driver.wait() != 0
        if end == "ctrl-c":
            until(lambda: not queue())
            assert paced.epochs() < EPOCHS
        else:
            assert queue()
        driver = paced.start("--on", "slurm")
    assert driver.wait() == 0
    # What a driver that died had begun went on; else the epoch that was ended begins again.
    assert paced.epochs() == EPOCHS if end == "driver" else EPOCHS < paced.epochs() <= EPOCHS + 2
    assert records_of(results(paced.out)) == expected
    until(lambda: not queue())


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("slurm[partition=nowhere]", "invalid partition specified: nowhere"),
        ("slurm[gpus=1]", "Invalid generic resource (gres) specification"),
        ("slurm[hours=48]", "would never start: PartitionTimeLimit"),
    ],
)
def test_what_slurm_refuses_is_one_line(
    engine: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "out", "--on", engine, attack="clean", defense="none") == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1]
    assert [line for line in lines if "sbatch" in line or "--on slurm" in line] == lines[-1:]
    assert not queue()


def test_jobs_that_end_before_they_begin_end_the_run(tmp_path: Path) -> None:
    # As on nodes that lack the environment of the machine where the run is started.
    code = "from tests.grid.grids import run; from pathlib import Path; import sys; sys.executable = '/bin/false'"
    words = repr([str(tmp_path / "out"), "--on", "slurm"])
    code += f"; out, *words = {words}; raise SystemExit(run(Path(out), *words, attack='clean', defense='none'))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "jobs end before they begin" in done.stderr.splitlines()[-1]

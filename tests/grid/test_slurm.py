"""A real Slurm cluster of one node: the records of one process, whatever ends a job or the driver.

Set up on a fresh machine by ``tests/tools/slurm_tests.sh``.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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


def test_jobs_make_what_one_process_makes(tmp_path: Path) -> None:
    out, events = tmp_path / "out", tmp_path / "events"
    assert start(tmp_path / "one", **GRID).wait() == 0
    assert start(out, "--on", "slurm[partition=day]", "--jobs", "3", "--events", str(events), **GRID).wait() == 0
    records = load_records(out)
    assert len(records) == 12
    assert results(out) == results(tmp_path / "one")
    assert not left_over(out)
    assert {record.provenance["threads"] for record in records} == {1}
    crafted = [one["title"] for one in told(events, "poison", "done")]
    assert len(crafted) == len(set(crafted)) == 2
    jobs = {one["where"].split()[1] for kind in ("cell", "poison") for one in told(events, kind, "running")}
    assert len(jobs) == 14
    assert any("_" in job for job in jobs)  # an array
    assert not list(out.glob("slurm/*/*.pkl"))  # nothing but logs
    assert not queue()


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
def note(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("note") / "note"


@pytest.fixture(scope="module")
def expected(note: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process without Slurm makes of the slow run."""
    paced = Paced(tmp_path_factory.mktemp("one") / "out", note)
    assert paced.start().wait() == 0
    assert paced.epochs() == EPOCHS
    return records_of(results(paced.out))


def hurry(job: str) -> None:
    """Start a job at once that Slurm has queued again: it would wait for two minutes."""
    until(lambda: queue().get(job) == "PENDING")
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now")


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

"""Worker processes of one grid: the records of one process, whatever becomes of a worker."""

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.core.threads import limited_threads
from benchmark.grid import board, estimate
from benchmark.grid.engines import local
from benchmark.grid.engines.pool import Worker, start_worker
from benchmark.grid.engines.worker import serve
from benchmark.grid.events import Events
from benchmark.grid.records import load_records
from benchmark.grid.runner import Grid
from benchmark.grid.settings import RunSettings
from tests.grid.grids import ATTACK, left_over, results, run

pytestmark = pytest.mark.usefixtures("registries_as_they_were")
PLUGIN = Path(__file__).with_name("mini_plugin.py")


def told(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def results_without_tracebacks(out: Path) -> dict[str, Any]:
    found = results(out)
    for record in found.values():
        if isinstance(record, dict) and "error" in record:
            del record["error"]["traceback"]
    return found


def test_a_worker_that_is_killed_changes_no_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note, events = tmp_path / "note", tmp_path / "events"
    grid: dict[str, Any] = {"attack": f"{ATTACK},uncraftable", "defense": f"fragile[note={note}]"}
    note.write_text("no kill\n" * 9)
    with limited_threads(1):
        assert run(tmp_path / "one", "--plugin", str(PLUGIN), **grid) == 1
    note.unlink()
    assert run(tmp_path / "two", "--plugin", str(PLUGIN), "--jobs", "2", "--events", str(events), **grid) == 1
    assert results_without_tracebacks(tmp_path / "two") == results_without_tracebacks(tmp_path / "one")
    assert not left_over(tmp_path / "two")
    records = load_records(tmp_path / "two")
    assert {record.provenance["threads"] for record in records} == {1}
    assert all(" --jobs 2" in record.provenance["command"] for record in records)
    # The fourth epoch that begins is the third again, in another process: it went on from the checkpoint.
    *first, last = note.read_text().splitlines()
    assert len(first) == 3
    assert {last}.isdisjoint(first)
    assert len(set(first)) == 1
    said = capsys.readouterr().err
    assert "was ended by signal 9; another goes on with" in said
    assert "no such poison" in said
    assert said.count("[5/5]") == 1 + 1
    states = {(one["title"], one["state"]): one for one in told(events) if one["event"] == "cell"}
    killed = next(one for (title, state), one in states.items() if "fragile" in title and state == "waiting")
    assert killed["reason"] == "its worker was ended by signal 9"
    assert f"(process {first[0]})" in killed["where"]
    ends = [state for _, state in states if state in ("done", "failed")]
    assert sorted(ends) == ["done"] * 3 + ["failed"] * 2
    poisons = [(one["title"], one["state"]) for one in told(events) if one["event"] == "poison"]
    assert poisons.count((f"crafting {ATTACK}, seed 1", "done")) == 1


def test_a_worker_that_crafts_is_told_of_idle_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is one that trains: the defense waits for another CPU, too."""
    monkeypatch.setattr("benchmark.grid.engines.pool.usable_cpus", lambda: 2)
    flags = ["--plugin", str(PLUGIN), "--jobs", "2"]
    assert run(tmp_path / "out", *flags, attack="shared", defense="shared-cpu", epochs=1) == 0


def test_an_estimate_counts_no_more_workers_than_there_are_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sized(list[int]):
        def resize(self, count: int) -> None:
            self[:] = range(count)

        def begin(self, _: Any) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setattr(local, "Pool", lambda *_: Sized())
    monkeypatch.setattr(local, "units_of", lambda *_: range(9))
    monkeypatch.setattr(local, "usable_cpus", lambda: 2)
    engine, grid = local.Local(8), cast(Grid, SimpleNamespace(device=torch.device("cpu")))
    with engine.started(grid, [], RunSettings(device="cpu")) as crew:
        assert crew.workers == 2
    assert engine.workers(RunSettings(), torch.device("cpu")) == 2  # of a dry run


@pytest.mark.parametrize(("device", "workers"), [("auto", 3), ("cuda:1", 1), ("cpu", 4)])
def test_an_estimate_counts_a_worker_for_each_gpu(device: str, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many CPUs there are beside them."""
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(local, "usable_cpus", lambda: 16)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    where = torch.device("cuda" if device == "auto" else device)
    assert local.Local(4).workers(RunSettings(device=device), where) == workers


def test_no_more_workers_start_early_than_there_are_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def start(number: int, *_: Any) -> Any:
        started.append(number)
        return SimpleNamespace(end=lambda: None)

    monkeypatch.setattr(local, "start_worker", start)
    monkeypatch.setattr(local, "usable_cpus", lambda: 2)
    for jobs in (64, 1):
        with local.Local(jobs).prepared(RunSettings(), torch.device("cpu")):
            pass
    assert started == [1, 2, 1]


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("3,1,0", ["3", "1"]),
        ("GPU-7", ["GPU-7"]),
        ("MIG-a,MIG-b,MIG-c", ["MIG-a", "MIG-b", "MIG-c"]),
        (None, ["0", "1"]),
    ],
)
def test_workers_take_the_gpus_that_are_there(
    visible: str | None, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that names more would leave some workers without one, to train on the CPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local._devices("auto", torch.device("cuda")) == found


def test_a_plug_in_that_changed_while_a_worker_started_ends_the_run() -> None:
    of_other_code = cast(Grid, SimpleNamespace(plan=list))
    with pytest.raises(UsageError, match="or a plugin have changed since the run began: start it again"):
        serve(of_other_code, lambda: ("train", "a key of this run", None, None, True), lambda _: None)


def test_a_poison_is_crafted_while_the_speed_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[Path] = []

    def measured(_: object) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while not there and time.monotonic() < deadline:
            time.sleep(0.1)
            there.extend((tmp_path / "out").rglob("*.safetensors"))
        return {}

    monkeypatch.setattr(estimate, "_measured", measured)
    events = tmp_path / "events"
    flags = ["--plugin", str(PLUGIN), "--jobs", "2", "--events", str(events)]
    assert run(tmp_path / "out", *flags, defense="none", epochs=1) == 0
    assert there
    poisons = [one["state"] for one in told(events) if one["event"] == "poison"]
    assert poisons == ["running", "done"]


@pytest.mark.parametrize("jobs", [[], ["--jobs", "2"]], ids=["alone", "workers"])
def test_events_tell_that_there_is_nothing_to_do(jobs: list[str], tmp_path: Path) -> None:
    assert run(tmp_path / "out", attack="clean", defense="none", epochs=1) == 0
    events = tmp_path / "logs" / "events"  # whose folder is not there yet
    assert run(tmp_path / "out", "--events", str(events), *jobs, attack="clean", defense="none", epochs=1) == 0
    plans = [one["cells"] for one in told(events) if one["event"] == "plan"]
    assert plans == [0]


def test_a_reader_of_events_that_stops_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "events"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    events = Events(pipe)
    events.tell("plan", cells=1)
    os.close(reader)
    for _ in range(2):
        events.tell("plan", cells=2)
    events.close()
    assert capsys.readouterr().err.count(f"--events: {pipe} takes no more lines: Broken pipe") == 1


def test_events_go_where_no_file_can_be_made(tmp_path: Path) -> None:
    """As into a pipe of the shell's: ``--events >(program)``."""
    theirs, ours = os.pipe()
    assert run(tmp_path, "--events", f"/dev/fd/{ours}", attack="clean", defense="none") == 0
    os.close(ours)
    with os.fdopen(theirs, encoding="utf-8") as pipe:
        assert [json.loads(line)["event"] for line in pipe] == ["plan", "cell", "cell"]


def test_events_tell_how_far_a_quiet_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in ("EVENTS", "ESTIMATES"):
        monkeypatch.setattr(board, f"_SECONDS_BETWEEN_{seconds}", 0.0)
    monkeypatch.setattr(board, "_ESTIMATING", math.inf)
    events = tmp_path / "events"
    flags = ["--plugin", str(PLUGIN), "--quiet", "--jobs", "1", "--events", str(events)]
    assert run(tmp_path / "out", *flags, attack="clean", defense="none", epochs=1) == 0
    states = [one for one in told(events) if one["event"] == "progress"]
    assert max(running["share"] for one in states for running in one["now"]) > 0
    assert any(one["seconds_left"] is not None for one in states)


def test_bad_data_end_workers_that_were_started_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    workers: list[Worker] = []

    def start(*arguments: Any) -> Worker:
        workers.append(start_worker(*arguments))
        return workers[-1]

    monkeypatch.setattr(local, "start_worker", start)
    monkeypatch.setattr(local, "usable_cpus", lambda: 2)
    assert run(tmp_path / "out", "--dataset", f"karpathy[root={tmp_path}]", "--jobs", "2", attack="clean") == 2
    assert [worker.process.poll() for worker in workers] == [-signal.SIGKILL] * 2
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    events = tmp_path / "events"
    flags = ["--plugin", str(PLUGIN), "--jobs", "1", "--events", str(events), "--attack", ATTACK, "--defense", "none"]
    flags += ["--dataset", "scenes[train=40,val=8,test=12,objects=30]", "--victim", "mini", "--surrogate", "mini"]
    flags += ["--epochs", "3000", "--batch-size", "16", "--device", "cpu", "--out", str(tmp_path / "out")]
    with subprocess.Popen([sys.executable, "-m", "benchmark", "run", *flags], stderr=subprocess.DEVNULL) as parent:
        while not (events.exists() and (running := [one for one in told(events) if one.get("state") == "running"])):
            assert parent.poll() is None
            time.sleep(0.1)
        parent.send_signal(signal.SIGTERM)
    worker = int(running[0]["where"].split("process ")[1].rstrip(")"))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and Path(f"/proc/{worker}").exists():
        time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--jobs", "0"], "--jobs must be from 1 to 512, or auto, got 0"),
        (["--jobs", "10000"], "--jobs must be from 1 to 512, or auto, got 10000"),
        (["--jobs", "many"], "takes none, an integer or auto, got 'many'"),
        (["--jobs", "2", "--on", "local[jobs=3]"], "both name jobs"),
        (["--on", "cloud"], "unknown engine 'cloud'; "),
        (["--events", "."], "--events: . is a folder"),
    ],
)
def test_bad_input(flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--out", str(tmp_path / "out"), "--preset", "micro", "--attack", "clean", *flags]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1]
    assert not list(tmp_path.glob("out/*.json"))


def test_a_worker_whose_gpu_is_gone_dies_and_refuses_nothing() -> None:
    """What a worker refuses ends the run; the others shall go on."""
    gone = Worker(1, 1, "")
    gone.open(RunSettings(device="cuda"), pickle.dumps([]))
    with pytest.raises(EOFError):
        gone.link.recv()
    assert gone.process.wait() == 1
    gone.end()


@pytest.mark.parametrize(
    "flags", [["--jobs", "2"], ["--jobs", "2", "--dry-run"], ["--on", "local[jobs=2]"]], ids=" ".join
)
def test_torchrun_is_refused_before_any_worker_starts(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(local, "start_worker", None)
    assert run(tmp_path, *flags) == 2
    assert capsys.readouterr().err.endswith("start processes of their own: leave out torchrun\n")
    assert not list(tmp_path.iterdir())

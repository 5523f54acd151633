"""Runs that share a folder: each cell and poison is made once, and a dead run holds nothing."""

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.core.atomic_files import replacing
from benchmark.core.errors import UsageError
from benchmark.core.locks import claimed, is_claimed
from tests.grid.grids import ATTACK, left_over, results, run

# Processes that start in milliseconds, with everything imported and no thread started.
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["benchmark.grid.run", "tests.grid.grids"])


def work(out: Path, log: Path, attack: str = ATTACK) -> None:
    """Run the grid in a process of its own; its standard error goes to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    raise SystemExit(run(out, attack=attack))


def start(out: Path, log: Path, attack: str = ATTACK) -> BaseProcess:
    process = SPAWN.Process(target=work, args=(out, log, attack))
    process.start()
    return process


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """Results of one run, and the seconds it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    begin = time.monotonic()
    process = start(folder / "out", folder / "log")
    process.join()
    assert process.exitcode == 0
    return results(folder / "out"), time.monotonic() - begin


@pytest.mark.parametrize("kills", [4, pytest.param(25, marks=pytest.mark.slow)])
def test_killed_at_random_moments(kills: int, undisturbed: tuple[dict[str, Any], float], tmp_path: Path) -> None:
    expected, seconds = undisturbed
    moments, out, killed, runs = random.Random(kills), tmp_path / "out", 0, 0
    while killed < kills:
        runs += 1
        process = start(out, tmp_path / "log")
        process.join(moments.uniform(0.1, 0.6) * seconds)
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.join()
        if process.exitcode == 0:
            # It got to its end in spite of all: compare, and begin again.
            assert results(out) == expected
            out = tmp_path / f"out{runs}"
    process = start(out, tmp_path / "log")
    process.join()
    assert process.exitcode == 0
    assert results(out) == expected
    assert not left_over(out)


def test_two_runs_at_once_do_the_work_of_one(undisturbed: tuple[dict[str, Any], float], tmp_path: Path) -> None:
    logs = [tmp_path / "one", tmp_path / "two"]
    for process in [start(tmp_path / "out", log) for log in logs]:
        process.join()
        assert process.exitcode == 0
    assert results(tmp_path / "out") == undisturbed[0]
    texts = [log.read_text() for log in logs]
    assert sum(text.count(f"crafted {ATTACK},") for text in texts) == 1
    assert sum("waiting for another run" in text for text in texts) >= 1


def hold(path: Path, ready: Any) -> None:
    with claimed(path, wait=True):
        ready.set()
        time.sleep(60)


def test_a_cell_whose_poison_another_run_crafts_comes_last(
    undisturbed: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    poison = next(name for name in undisturbed[0] if name.endswith(".safetensors"))
    (tmp_path / "poisons").mkdir()
    crafting, ready = tmp_path / "poisons" / poison, SPAWN.Event()
    other = SPAWN.Process(target=hold, args=(crafting, ready))
    other.start()
    assert ready.wait(60)
    ours = start(tmp_path, tmp_path / "log", f"{ATTACK},random-trigger[k=2]")
    while not list(tmp_path.glob("[!.]*_random-trigger*.json")):
        time.sleep(0.1)
        assert ours.is_alive()
    assert not crafting.exists()
    other.kill()
    ours.join()
    assert ours.exitcode == 0
    assert undisturbed[0].items() <= results(tmp_path).items()


def test_a_group_that_shares_a_folder_shares_its_locks(tmp_path: Path) -> None:
    usual = os.umask(0o002)
    try:
        with claimed(tmp_path / "cell.json", wait=False) as ours:
            assert ours
            (lock,) = tmp_path.glob(".*.lock")
            assert lock.stat().st_mode & 0o777 == 0o664
    finally:
        os.umask(usual)


def test_a_lock_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """As another user's: its folder may take files all the same."""
    lock = tmp_path / ".cell.json.lock"
    lock.mkdir()
    with pytest.raises(UsageError, match=f"cannot open the lock {lock}: "), claimed(tmp_path / "cell.json", wait=False):
        pass


def test_a_claim_ends_with_its_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, ready = tmp_path / "cell.json", SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(path, ready))
    process.start()
    assert ready.wait(60)
    with claimed(path, wait=False) as ours:
        assert not ours
    with claimed(tmp_path / "other.json", wait=False) as ours:
        assert ours
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with claimed(path, wait=True) as ours:
        assert ours
        with claimed(path, wait=False) as again:
            assert not again


def write_until_killed(path: Path, names: list[str]) -> None:
    with claimed(path, wait=True):
        for name in names:
            (path.parent / name).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def test_who_only_asks_reads_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of 10,000 records takes 50 ms, and each cell is asked for many times."""
    with claimed(tmp_path / "cell.json", wait=True):
        pass
    monkeypatch.setattr(Path, "glob", None)
    assert not is_claimed(tmp_path / "cell.json")


def test_what_a_killed_writer_left_is_swept_away(tmp_path: Path) -> None:
    names = [".cell.json.abc.partial", "..cell.json.checkpoint.abc.partial", ".other.json.abc.partial", "cell.json"]
    path = tmp_path / "cell.json"
    folder = tmp_path / ".cell.json.def.partial"  # of a temporary folder, which has a lock of its own
    folder.mkdir()
    process = SPAWN.Process(target=write_until_killed, args=(path, names))
    process.start()
    process.join()
    assert {path.name for path in tmp_path.iterdir()} == {*names, folder.name, ".cell.json.lock"}
    with claimed(path, wait=True, tidy=True):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {*names[2:], folder.name, ".cell.json.lock"}


def test_what_a_driver_writes_while_another_run_takes_the_claim_is_no_leftover(tmp_path: Path) -> None:
    """A driver saves a finished record even if another run has just begun to look at the cell."""
    path = tmp_path / "cell.json"
    with claimed(path, wait=True):
        pass
    with replacing(path) as temporary:
        temporary.write_text("a record")
        with claimed(path, wait=True, tidy=True):
            assert temporary.exists()
    assert path.read_text() == "a record"
    assert {left.name for left in tmp_path.iterdir()} == {path.name, ".cell.json.lock"}

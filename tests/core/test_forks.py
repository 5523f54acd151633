"""Work that forks share: what one process gives, whatever becomes of the forks."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.core.forks import in_any_order
from benchmark.core.idle_cpus import idle_cpus
from benchmark.core.locks import is_claimed
from benchmark.core.threads import limited_threads
from tests.idle import idling
from tests.watchdog import in_no_time

pytestmark = pytest.mark.skipif("not hasattr(os, 'fork')", reason="no forks here")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with limited_threads(1):
        yield


def exists(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


@pytest.mark.parametrize("forks", [0, 1, 3, 9])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_gives_what_a_plain_loop_gives(forks: int, count: int) -> None:
    items = [torch.full((100_000,), float(number)) for number in range(count)]  # more than a pipe holds
    found = dict(in_any_order(lambda item: (item * 2).numpy(), items, forks))
    assert sorted(found) == list(range(count))
    assert all(np.array_equal(found[number], np.full(100_000, 2 * number, np.float32)) for number in range(count))


def test_every_fork_does_its_share() -> None:
    processes = [process for _, process in sorted(in_any_order(lambda _: os.getpid(), range(7), 2))]
    assert len(set(processes)) == 3
    assert processes[0::3] == [os.getpid()] * 3
    assert len(set(processes[1::3])) == len(set(processes[2::3])) == 1


def test_a_fork_uses_no_other_cpu_than_its_own() -> None:
    this = os.getpid()
    with idling(1):
        found = dict(in_any_order(lambda _: (os.getpid() == this, idle_cpus()), range(4), 1))
    assert found == {0: (True, 1), 1: (False, 0), 2: (True, 1), 3: (False, 0)}


def test_gradients_are_those_of_one_process() -> None:
    generator = torch.Generator().manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 5))
    items = [torch.rand(4, 3, 8, 8, generator=generator) for _ in range(5)]

    def gradient(item: torch.Tensor) -> np.ndarray:
        item = item.clone().requires_grad_()
        net(item).square().sum().backward()
        assert item.grad is not None
        return item.grad.numpy()

    alone = [gradient(item) for item in items]  # autograd has run before the fork
    shared = dict(in_any_order(gradient, items, 2))
    assert all(np.array_equal(alone[number], shared[number]) for number in range(5))


def test_what_a_dead_fork_has_left_is_done_here() -> None:
    here = os.getpid()

    def work(number: int) -> int:
        if number == 3 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    found = dict(in_any_order(work, range(6), 1))
    assert sorted(found) == list(range(6))
    assert found[1] != here
    assert found[3] == found[5] == here


def test_what_a_fork_was_sending_when_it_died_is_done_here() -> None:
    here, most = os.getpid(), 1 << 20  # bytes, many more than a pipe holds

    def work(number: int) -> bytes:
        if os.getpid() != here:
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, 0.3)
        elif number == 0:
            time.sleep(0.6)  # meanwhile the fork waits until somebody reads
        return bytes([number]) * most

    assert dict(in_any_order(work, range(4), 1)) == {number: bytes([number]) * most for number in range(4)}


def test_an_error_is_raised_here_and_no_fork_is_left(capfd: pytest.CaptureFixture[str]) -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ZeroDivisionError("three")
        return os.getpid()

    forks: set[int] = set()
    with pytest.raises(ZeroDivisionError, match="three"):
        forks.update(process for _, process in in_any_order(work, range(6), 1))
    assert capfd.readouterr().err == ""
    assert not [process for process in forks - {os.getpid()} if exists(process)]


def test_forks_of_a_loop_that_is_left_end() -> None:
    results = in_any_order(lambda _: os.getpid(), range(100), 1)
    fork = next(process for _, process in results if process != os.getpid())
    results.close()
    assert not exists(fork)


@pytest.mark.parametrize("delay", [0, 3], ids=["at work", "just started"])
def test_forks_of_a_killed_process_hold_no_claim_of_its_own(tmp_path: Path, delay: int) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; import torch\n"
        "from benchmark.core.forks import in_any_order; from benchmark.core.locks import claimed\n"
        "torch.set_num_threads(1)\n"
        f"os.register_at_fork(after_in_child=lambda: time.sleep({delay}))\n"
        "with claimed(Path(sys.argv[1]), wait=True):\n"
        "    for _ in in_any_order(lambda number: number and time.sleep(60), range(2), 1):\n"
        "        print('claimed', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "poison"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    assert is_claimed(tmp_path / "poison")
    process.kill()
    process.wait()
    with in_no_time():
        while is_claimed(tmp_path / "poison"):
            time.sleep(0.05)


def test_where_torch_has_threads_nothing_is_forked() -> None:
    with limited_threads(2):
        assert {process for _, process in in_any_order(lambda _: os.getpid(), range(4), 3)} == {os.getpid()}

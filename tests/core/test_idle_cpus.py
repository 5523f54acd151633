"""The thread on an idle CPU: where things are computed, when, and what of torch's state goes with them."""

import threading

import pytest
import torch

from benchmark.core.idle_cpus import beside, idle_cpus
from benchmark.core.thread_pool import in_order, thread_pool
from benchmark.core.threads import limited_threads
from tests.idle import idling


def here() -> bool:
    return threading.current_thread() is threading.main_thread()


def test_only_a_process_with_one_thread_may_use_other_cpus() -> None:
    with idling(3):
        assert idle_cpus() == 3
        with limited_threads(2):
            assert idle_cpus() == 0
    assert idle_cpus() == 0


def test_an_idle_cpu_computes_while_this_thread_goes_on() -> None:
    begun, asked = threading.Event(), threading.Event()

    def function() -> bool:
        begun.set()
        return asked.wait(60) and not here()

    with idling(1):
        result = beside(function)
        assert begun.wait(60)
        asked.set()
        assert result()


def test_without_an_idle_cpu_all_is_computed_here_when_it_is_asked_for() -> None:
    calls: list[bool] = []
    result = beside(lambda: calls.append(here()))
    assert calls == []
    result()
    assert calls == [True]


def test_what_has_not_begun_when_it_is_asked_for_is_computed_here() -> None:
    done = threading.Event()
    with idling(1):
        long = beside(lambda: done.wait(5))
        assert beside(here)()
        done.set()
        assert long()


@pytest.mark.parametrize("idle", [0, 1])
def test_nothing_records_gradients(idle: int) -> None:
    weight = torch.ones(3, requires_grad=True)
    with idling(idle):
        assert not beside(lambda: weight * 2)().requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("idle", [0, 1])
def test_errors_are_raised_to_who_asks(idle: int) -> None:
    def fail() -> None:
        raise ArithmeticError("no result")

    with idling(idle):
        result = beside(fail)
        with pytest.raises(ArithmeticError, match="no result"):
            result()


def test_a_pool_has_no_more_threads_than_this_process_may_use_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0}, raising=False)
    both = threading.Barrier(2, timeout=0.5)
    with thread_pool() as pool:
        waiting = [pool.submit(both.wait) for _ in range(2)]
        with pytest.raises(threading.BrokenBarrierError):  # nobody meets the first, who is alone until then
            waiting[0].result()


def test_a_pool_takes_no_more_items_than_a_window() -> None:
    """Else a million items would take gigabytes before the first has been worked on."""
    begun = list[int]()

    def tenfold(item: int) -> int:
        begun.append(item)
        return 10 * item

    with thread_pool(2) as pool:
        results = in_order(pool, tenfold, range(100), ahead=5)
        assert [next(results) for _ in range(3)] == [0, 10, 20]
        assert len(begun) <= 5
        assert list(results) == [10 * item for item in range(3, 100)]

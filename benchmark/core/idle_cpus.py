"""How many CPUs of this machine have nothing to do, and a second thread that a worker can run on one of them.

The process that shares out the work of a grid knows which workers have nothing to do, and tells the others.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")
_told = 0


def usable_cpus() -> int:
    """How many CPUs this process may use; ``taskset`` and clusters allow fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tell_idle_cpus(count: int) -> None:
    """Say how many CPUs idle from now on."""
    global _told
    _told = count


def idle_cpus() -> int:
    """How many idle CPUs this process may use beside its own; none where torch has several threads."""
    return _told if torch.get_num_threads() == 1 else 0


def beside(function: Callable[[], T]) -> Callable[[], T]:
    """Begin to compute something on an idle CPU, without gradients.

    Operations of torch then run at the same time as those of this thread, and compute the same as they would in it.

    Returns:
        A function that gives the result. If the work has not begun when it is called, it is done in this thread.
    """
    # The function itself turns gradients off, because torch keeps this setting for each thread.
    computed = torch.no_grad()(function)
    if not idle_cpus():
        return computed
    work = [computed]  # a list, so that running the function also removes it, which frees its data
    begun = _second_thread().submit(lambda: work.pop()())
    return lambda: work.pop()() if begun.cancel() else begun.result()


@cache
def _second_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "second", initializer=torch.set_num_threads, initargs=(1,))

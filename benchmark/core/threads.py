"""How many threads libraries compute with, which decides the rounding of results; and a pool of threads for files."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from benchmark.core.idle_cpus import usable_cpus

S = TypeVar("S")
T = TypeVar("T")
_VARIABLES = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"


def worker_variables(threads: int | None) -> dict[str, str]:
    """Environment variables for a worker process.

    Args:
        threads: that its libraries take; ``None``: as many as they choose.
    """
    # So that the worker finds the same modules as this process, not others of the same names in its current folder.
    path = os.pathsep.join(str(Path(one).absolute()) for one in sys.path)
    variables = {"PYTHONPATH": path} | ({} if threads is None else dict.fromkeys(_VARIABLES, str(threads)))
    # For the thread on an idle CPU: from an arena of its own, glibc returns memory in every training step.
    return variables | ({"MALLOC_ARENA_MAX": "1"} if threads == 1 else {})


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Compute with ``count`` threads while the block runs; with ``None``, with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_order(pool: ThreadPoolExecutor, work: Callable[[S], T], items: Sequence[S], ahead: int = 4096) -> Iterator[T]:
    """The results of work on items, in order; at most ``ahead`` are under way, so memory does not grow with all."""
    for start in range(0, len(items), ahead):
        yield from pool.map(work, items[start : start + ahead])


@contextmanager
def thread_pool(count: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """Threads, by default one for each usable CPU, that after an error or Ctrl-C begin nothing that is still queued."""
    pool = ThreadPoolExecutor(count or usable_cpus())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)

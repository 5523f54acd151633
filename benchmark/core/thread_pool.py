"""A pool of threads for files."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from benchmark.core.idle_cpus import usable_cpus

S = TypeVar("S")
T = TypeVar("T")


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

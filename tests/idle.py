"""Idle CPUs by order."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmark.core.idle_cpus import tell_idle_cpus
from benchmark.core.threads import limited_threads


@contextmanager
def idling(cpus: int) -> Iterator[None]:
    """Inside the block that many CPUs idle, and this process computes with one thread."""
    with limited_threads(1):
        tell_idle_cpus(cpus)
        try:
            yield
        finally:
            tell_idle_cpus(0)

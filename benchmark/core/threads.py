"""How many threads libraries compute with, which decides the rounding of results."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

THREAD_VARIABLES = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"
"""The environment variables by which a process is told how many threads its libraries take."""


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Compute with ``count`` threads while the block runs; with ``None``, with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

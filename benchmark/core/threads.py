"""How many threads libraries compute with, which decides the rounding of results."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

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

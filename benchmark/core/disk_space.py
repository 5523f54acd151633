"""Space on a disk for what is written through a memory map, and arrays that live there."""

import errno
import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.core.errors import UsageError, as_usage_error


def is_full_disk(error: BaseException) -> bool:
    """Whether a file could not be written for want of space: that ends a run, as no cell is to blame for it."""
    cause = error.__cause__ if isinstance(error, UsageError) else error
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


def require_space(folder: Path, needed: int) -> None:
    """Require free space for a file that is written through a memory map: on a full disk, that kills the process.

    Raises:
        OSError: fewer than ``needed`` bytes are free.
    """
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, f"needs {math.ceil(needed / 2**20):,} MiB of free space")


def reserve(handle: int, size: int) -> None:
    """Allocate the first ``size`` bytes of an open file on disk, so that no other process can use up the space.

    Raises:
        OSError: there is not enough free space.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)


def zeros_on_disk(folder: Path, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """``(*shape)`` int8 zeros, memory-mapped from an unnamed file that disappears with the array or the process.

    Raises:
        UsageError: the folder cannot be written to, or lacks space for the array and two saved copies of it: the last
            checkpoint is kept while the next one is written.
    """
    size = math.prod(shape)
    with as_usage_error(f"cannot write to folder {folder}"):
        require_space(folder, 3 * size)
        with tempfile.TemporaryFile(dir=folder) as file:
            reserve(file.fileno(), size)
            return np.memmap(file, dtype=np.int8, mode="w+", shape=shape)

"""Writing files so that a reader never sees half of one, and arrays that live in a file."""

import errno
import fcntl
import glob
import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import UsageError

PARTIAL = ".partial"  # ends the name of a file that is being written


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to; it replaces ``path`` when the block ends without an error.

    Raises:
        UsageError: the folder cannot be written to.
    """
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder`` to fill; it takes the name when the block ends without an error.

    Raises:
        UsageError: ``folder`` is there and not empty, or cannot be written to, or the disk is full.
    """
    require_unused(folder)
    make_folder(folder.parent)
    _remove_abandoned(folder)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=PARTIAL, dir=folder.parent))
    # A lock that a killed process cannot keep tells its leftovers from what another process is filling.
    handle = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield temporary
        temporary.chmod(0o755)
        temporary.replace(folder)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        os.close(handle)
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left when they were filling ``folder``."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*{PARTIAL}"):
        handle = os.open(left, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)
        except BlockingIOError:
            continue  # being filled right now
        finally:
            os.close(handle)


def require_unused(folder: Path) -> None:
    """See that a folder is not there, or empty.

    Raises:
        UsageError: something is there.
    """
    try:
        used = folder.exists() and next(folder.iterdir(), None) is not None
    except OSError as error:
        raise UsageError(f"cannot write to folder {folder}: {error.strerror or error}") from error
    if used:
        raise UsageError(f"folder {folder} is not empty; name one that is not there yet")


def make_folder(folder: Path) -> None:
    """Create a folder and see that files can be written there.

    Raises:
        UsageError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write to folder {folder}: {error.strerror or error}") from error


def require_space(folder: Path, needed: int) -> None:
    """See that a file fits before it is written through a memory map: filling the disk so kills without a word.

    Raises:
        OSError: fewer than ``needed`` bytes are free.
    """
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, f"needs {needed / 2**20:.0f} MiB of free space")


def zeros_on_disk(folder: Path, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """(*shape) int8 zeros, memory-mapped from a sparse file without a name, which goes when the array or process does.

    Raises:
        UsageError: the folder cannot be written to, or has less space than the array and a saved copy of it take.
    """
    try:
        require_space(folder, 2 * math.prod(shape))
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype=np.int8, mode="w+", shape=shape)
    except OSError as error:
        raise UsageError(f"cannot write to folder {folder}: {error.strerror or error}") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()

"""Claims on work, so that runs that share a folder do not do the same work twice.

A claim is an operating-system lock on a hidden file. It ends with the process that holds it, even if that is killed.
"""

import fcntl
import glob
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmark.core.atomic_files import PARTIAL, remove_leftover
from benchmark.core.errors import as_usage_error

_MODE = 0o666  # less the umask, as of the files beside it: a group that shares a folder shares its locks
_log = logging.getLogger(__name__)


@contextmanager
def claimed(path: Path, *, wait: bool, tidy: bool = False) -> Iterator[bool]:
    """Hold the claim on making the file ``path`` while the block runs.

    Args:
        path: the file to be made; its folder exists.
        wait: whether to wait while another process holds the claim; a line on standard error says so.
        tidy: whether to remove what a killed process left half-written for ``path``. It reads the whole folder.

    Yields:
        Whether this process holds the claim; always true with ``wait``.

    Raises:
        UsageError: the folder cannot be written to, the lock is another user's, or the file system has no locks.
    """
    # The lock file stays. If it were removed, one process could hold the old file while another locks a new one.
    lock = path.with_name(f".{path.name}.lock")
    with as_usage_error(f"cannot write to folder {path.parent}"):
        handle, is_first = _open(lock)
    try:
        held = _lock(handle, lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if wait and not held:
            _log.info("waiting for another run, which is making %s", path.name)
            held = _lock(handle, lock, fcntl.LOCK_EX)
        if tidy and held and not is_first:
            # Before the first claim nobody wrote here. Folders are left to ``temporary_folder``.
            for left in path.parent.glob(f".*{glob.escape(path.name)}*{PARTIAL}"):
                if not left.is_dir():
                    remove_leftover(left)
        yield held
    finally:
        os.close(handle)


def is_claimed(path: Path) -> bool:
    """Whether another process holds the claim on making the file ``path`` at this moment.

    Raises:
        UsageError: as for :func:`claimed`.
    """
    if not path.parent.is_dir():
        return False
    with claimed(path, wait=False) as ours:
        return not ours


def _open(lock: Path) -> tuple[int, bool]:
    """The lock file, and whether nobody had made it before."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(lock, flags | os.O_EXCL, _MODE), True
    except FileExistsError:
        with as_usage_error(f"cannot open the lock {lock}"):
            return os.open(lock, flags, _MODE), False


def _lock(handle: int, lock: Path, how: int) -> bool:
    with as_usage_error(f"cannot lock {lock}"), suppress(BlockingIOError):
        fcntl.flock(handle, how)
        return True
    return False

"""Atomic writes, so that a reader never sees half a file."""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.core.errors import UsageError, as_usage_error

PARTIAL = ".partial"  # suffix of a file that is being written
UNFINISHED = ".unfinished-"  # in the name of a folder that is being filled, before its key
_LONGEST = 200  # bytes of a name that is lengthened; file systems take 255


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path``; it replaces ``path`` if the block ends without an error.

    Its permissions follow the umask. First its content and then the renaming is flushed to disk, so that a crash of
    the machine leaves either the old file or the new one.

    Raises:
        UsageError: the folder or file cannot be written to, or the disk is full; ``path`` is unchanged.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UsageError(f"cannot write {path}: it is a device or a pipe")
    make_folder(path.parent)
    with as_usage_error(f"cannot write {path}"), _temporary_file(path) as temporary:
        mode = temporary.stat().st_mode
        try:
            yield temporary
            temporary.chmod(stat.S_IMODE(mode))  # a library may have put a file of its own in its place
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            _synchronise_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def remove_leftover(temporary: Path) -> None:
    """Remove a file that a killed process left half-written; one that is being written now is left alone."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError), temporary.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary.unlink()


@contextmanager
def _temporary_file(path: Path) -> Iterator[Path]:
    """Yield a new file beside ``path``, locked while the block runs: see :func:`remove_leftover`."""
    while True:
        temporary = _unused(path)
        with temporary.open("xb") as file:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if temporary.exists():  # nobody took it for a leftover before it was locked
                yield temporary
                return


def _synchronise_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        # Some network file systems synchronise files, but no folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _unused(path: Path) -> Path:
    """A hidden name beside ``path`` that nobody else uses, for a file or folder with the permissions of the umask."""
    if path.name in ("", ".."):
        raise UsageError(f"cannot write {path}: it is a folder")
    short = path.name.encode(errors="surrogateescape")[:_LONGEST].decode(errors="ignore")
    return path.with_name(f".{short}.{secrets.token_hex(8)}{PARTIAL}")


def holds_content(path: Path) -> bool:
    """Whether there is a file with anything in it; what a crash of the machine leaves may be empty."""
    return path.is_file() and path.stat().st_size > 0


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; it is renamed to ``folder`` if the block ends without an error.

    Raises:
        UsageError: ``folder`` exists and is not empty, or cannot be written to, or the disk is full.
    """
    require_unused(folder)
    make_folder(folder.parent)
    with temporary_folder(folder.parent, folder.name) as temporary, as_usage_error(f"cannot write {folder}"):
        yield temporary
        temporary.replace(folder)


@contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yield a hidden folder in ``parent``, removed when the block ends if it still exists.

    A file beside it is locked while its process lives. So folders that killed processes left behind, whatever their
    names, are recognised by their missing lock, and removed first.
    """
    for left in filter(Path.is_dir, parent.glob(f".*.{'[0-9a-f]' * 16}{PARTIAL}")):
        # A locked folder is in use right now. If the file system has no locks, any of them might be in use.
        with contextlib.suppress(OSError), _lock_beside(left, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(left)
    folder = _unused(parent / name)
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            held.enter_context(_lock_beside(folder, fcntl.LOCK_EX))
        folder.mkdir()
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


@contextmanager
def _lock_beside(folder: Path, how: int) -> Iterator[None]:
    """Hold a lock on a file beside a folder, which is removed after it.

    Not on the folder itself: a network's file system would lock a folder for one machine alone, and another machine
    would take it for a leftover.
    """
    lock = folder.with_name(f".{folder.name.removeprefix('.')}.lock")
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    theirs = False
    try:
        try:
            fcntl.flock(handle, how)
        except BlockingIOError:
            theirs = True
            raise
        yield
    finally:
        if not theirs:
            lock.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def unfinished_folder(folder: Path, key: str) -> Iterator[Path]:
    """Yield ``FOLDER.unfinished-KEY``, renamed to ``folder`` if the block ends without an error, and else kept.

    So a later run with the same key finds the files that a killed one has written; files that were half-written by
    :func:`replacing` are removed first. After an error, an empty folder is removed.

    Args:
        folder: does not exist, or is empty.
        key: names the content to be, in letters and digits.

    Raises:
        UsageError: ``folder`` is not empty or cannot be written to, the disk is full, or another run holds it.
    """
    require_unused(folder)
    make_folder(folder.parent)
    unfinished = folder.with_name(f"{folder.name}{UNFINISHED}{key}")
    try:
        with _lock_beside(unfinished, fcntl.LOCK_EX | fcntl.LOCK_NB):
            unfinished.mkdir(exist_ok=True)
            for left in unfinished.rglob(f".*{PARTIAL}"):
                left.unlink()
            try:
                yield unfinished
                unfinished.replace(folder)
            finally:
                with contextlib.suppress(OSError):  # it holds files, or has its own name by now
                    unfinished.rmdir()
    except BlockingIOError as error:
        raise UsageError(f"another run is writing {unfinished}") from error
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror or error}") from error


def discard(path: Path) -> None:
    """Remove a folder or file, unless another process does so first.

    Raises:
        UsageError: it cannot be removed.
    """
    # Rename first, so that nobody finds a half-removed folder under its name.
    aside = _unused(path)
    with as_usage_error(f"cannot remove the damaged {path}"), contextlib.suppress(FileNotFoundError):
        path.replace(aside)
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        else:
            aside.unlink()


def require_unused(folder: Path) -> None:
    """Require that a folder does not exist or is empty, and has a name of its own, by which it can be replaced.

    Raises:
        UsageError: it is not empty, is a link, or cannot be read; or no folder can be made beside it.
    """
    if folder.name in ("", "..") or folder.is_symlink():
        raise UsageError(f"cannot write to folder {folder}; name a new folder")
    with as_usage_error(f"cannot write to folder {folder}"):
        used = folder.exists() and next(folder.iterdir(), None) is not None
    if used:
        raise UsageError(f"folder {folder} is not empty; name a new folder")
    require_possible(folder.absolute().parent)


def require_possible(folder: Path) -> None:
    """Require that a folder exists or could be created, without creating it: a dry run reports what would stop a run.

    Raises:
        UsageError: a file is in its way, its name is too long, or permissions forbid it.
    """
    for one in (folder, *folder.parents):
        try:
            one.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UsageError(f"cannot write to folder {folder}: {error.strerror or error}") from error
        if not one.is_dir():
            raise UsageError(f"cannot write to folder {folder}: {one} is not a folder")
        if not os.access(one, os.W_OK | os.X_OK):
            raise UsageError(f"cannot write to folder {folder}: no permission")
        return


def make_folder(folder: Path) -> None:
    """Create a folder and try that files can be written there.

    Raises:
        UsageError: the folder cannot be created or written to.
    """
    with as_usage_error(f"cannot write to folder {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass

"""Reading small files that anyone may have made: neither a pipe nor a device nor a huge file holds the suite up."""

import os
import stat
from pathlib import Path


def read_text(path: Path, largest: int, encoding: str = "utf-8") -> str:
    """The text of a regular file, with its line ends as they are.

    Args:
        path: the file; links are followed.
        largest: size in bytes above which nothing is read.
        encoding: of the text.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no regular file, is larger, or is not in this encoding.
    """
    return read_bytes(path, largest).decode(encoding)


def read_bytes(path: Path, largest: int) -> bytes:
    """The content of a regular file, which is opened once: what is looked at is what is read.

    Args:
        path: the file; links are followed.
        largest: size in bytes above which nothing is read.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no regular file, or is larger.
    """
    # Without O_NONBLOCK, opening a FIFO would wait for somebody who writes to it.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_size > largest:
            limit = f"{largest >> 20} MiB" if largest >> 20 else f"{largest >> 10} KiB"
            raise ValueError(f"larger than {limit}")
        with open(handle, "rb", closefd=False) as file:
            return file.read(status.st_size)  # it may grow meanwhile
    finally:
        os.close(handle)

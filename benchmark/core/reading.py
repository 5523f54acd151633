"""Reading small files that anyone may have made: pipes, devices and huge files are refused, and never waited for."""

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_GZIP = 16 + zlib.MAX_WBITS  # zlib's name of the format: one member, with a header and a checksum
_PART = 1 << 20  # characters read at a time, so that a huge sparse file is refused after the first of its NULs


def read_text(path: Path, largest: int, encoding: str = "utf-8") -> str:
    r"""The text of a regular file, with ``\n`` for all line ends.

    Args:
        path: the file; links are followed.
        largest: size in bytes above which nothing is read.
        encoding: of the text.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no regular file, is larger, is not in this encoding, or holds a NUL character.
    """
    parts = []
    with _opened(path, largest) as (handle, _), open(handle, encoding=encoding, closefd=False) as file:
        while part := file.read(_PART):
            if "\0" in part:
                raise ValueError("not a text: it holds a NUL character")
            parts.append(part)
    return "".join(parts)


def read_bytes(path: Path, largest: int) -> bytes:
    """The content of a regular file. It is opened only once, so that the file that is checked is the file that is read.

    Args:
        path: the file; links are followed.
        largest: size in bytes above which nothing is read.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no regular file, or is larger.
    """
    with _opened(path, largest) as (handle, size), open(handle, "rb", closefd=False) as file:
        return file.read(size)  # it may grow meanwhile


def read_gzip_text(path: Path, largest: int) -> str:
    """The text, in UTF-8, of a regular file that gzip has compressed.

    Args:
        path: the file; links are followed.
        largest: size in bytes above which nothing is read, and of the text the most that is unpacked.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no regular file, is larger, is damaged, holds a longer text, or none in UTF-8.
    """
    # Not by GzipFile, which takes many seconds over headers and padding made for that.
    unpacked = zlib.decompressobj(wbits=_GZIP)
    try:
        content = unpacked.decompress(read_bytes(path, largest), largest + 1)
    except zlib.error as error:
        raise ValueError(f"damaged, or not compressed by gzip: {error}") from error
    if len(content) > largest:
        raise ValueError(f"its text is longer than {_readable(largest)}")
    if not unpacked.eof or unpacked.unused_data:
        raise ValueError(f"damaged, or not compressed by gzip: {'more follows' if unpacked.eof else 'it is cut off'}")
    return content.decode()


def _readable(size: int) -> str:
    return f"{size >> 20} MiB" if size >> 20 else f"{size >> 10} KiB"


@contextmanager
def _opened(path: Path, largest: int) -> Iterator[tuple[int, int]]:
    """The handle of a regular file, and its size in bytes."""
    # Without O_NONBLOCK, opening a FIFO would wait for somebody who writes to it.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_size > largest:
            raise ValueError(f"larger than {_readable(largest)}")
        yield handle, status.st_size
    finally:
        os.close(handle)

"""Files of an untrusted folder, read only if they are inside it and not too large."""

import os
import struct
from pathlib import Path, PurePosixPath

from benchmark.core.reading import read_bytes

_PNG = b"\x89PNG"
LARGEST_FILE = 2**29  # bytes; larger files are not read into memory


def size_of_png(content: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header of a PNG file."""
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def is_inside(relative: str) -> bool:
    """Whether an untrusted relative path with forward slashes stays inside its folder."""
    path = PurePosixPath(relative)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not {"\0", "\\"} & set(relative)


def read_inside(folder: Path, relative: str) -> bytes:
    """Read a file below a folder.

    Raises:
        ValueError, OSError: as :func:`file_inside`, or the file is too large, or neither a PNG nor a text.
    """
    path = _path_inside(folder, relative)
    try:
        content = read_bytes(path, LARGEST_FILE)
    except FileNotFoundError:
        raise ValueError(f"{relative} is missing") from None
    except ValueError as error:
        raise ValueError(f"{relative} is {error}") from error
    # Of the files that are read here, only PNG files hold NUL characters. A text of half a gigabyte of them would take
    # long to parse.
    if b"\0" in content and not content.startswith(_PNG):
        raise ValueError(f"{relative} is neither a PNG nor a text: it holds a NUL character")
    return content


def file_inside(folder: Path, relative: str) -> Path:
    """The path of a file below a folder.

    Raises:
        ValueError: the path leads out of the folder (directly or through a link), or there is no regular file.
        OSError: the folder cannot be read.
    """
    path = _path_inside(folder, relative)
    if not path.is_file():  # opening a pipe would block forever
        raise ValueError(f"{relative} is missing or not a regular file")
    return path


def _path_inside(folder: Path, relative: str) -> Path:
    path = folder / relative
    # Not Path.resolve: it raises RuntimeError where links lead in a circle.
    if not is_inside(relative) or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise ValueError(f"the path '{relative}' leads out of the folder")
    return path

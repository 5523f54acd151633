"""Lossless PNG encoding and decoding. The size of untrusted files is validated before they are decoded."""

import io
import struct
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from benchmark.core.pictures import open_picture
from benchmark.data.dataset import Images

LARGEST_FILE = 2**29  # bytes; larger files are not read into memory


def encode_png(image: Images) -> bytes:
    """Encode an image (3, H, W) uint8 as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(buffer, "PNG")
    return buffer.getvalue()


def decode_png(content: bytes, side: int | None) -> Images:
    """Decode a PNG file in RGB to pixels (3, H, W) uint8.

    Args:
        content: the file.
        side: required height and width in pixels; ``None`` for any size that Pillow considers harmless.

    Raises:
        ValueError: the file is not a PNG, is damaged, is not RGB, or has another size.
    """
    try:
        with open_picture(io.BytesIO(content), ["PNG"]) as image:
            if image.mode != "RGB":
                raise ValueError(f"the image is {image.mode}, not RGB")
            if side is not None and image.size != (side, side):
                raise ValueError(f"the image is {image.width} × {image.height} px, not {side} × {side}")
            return np.asarray(image).transpose(2, 0, 1)
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable PNG: {error}") from error


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
        ValueError, OSError: as :func:`file_inside`, or the file is too large.
    """
    path = file_inside(folder, relative)
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{relative} is larger than {LARGEST_FILE >> 20} MiB")
    return path.read_bytes()


def file_inside(folder: Path, relative: str) -> Path:
    """The path of a file below a folder.

    Raises:
        ValueError: the path leads out of the folder (directly or through a link), or there is no regular file.
        OSError: the folder cannot be read.
    """
    path = folder / relative
    if not is_inside(relative) or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the path '{relative}' leads out of the folder")
    if not path.is_file():  # opening a pipe would block forever
        raise ValueError(f"{relative} is missing or not a regular file")
    return path

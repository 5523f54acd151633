"""Pixels to PNG and back, without loss; files of strangers are measured before they are decoded."""

import io
import struct
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from benchmark.data.dataset import Images

LARGEST_FILE = 2**29  # bytes; nothing larger is read into memory at once


def encode_png(image: Images) -> bytes:
    """The PNG file of an image (3, H, W) uint8."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(buffer, "PNG")
    return buffer.getvalue()


def decode_png(content: bytes, side: int | None) -> Images:
    """The pixels (3, H, W) uint8 of a PNG file in RGB.

    Args:
        content: the file.
        side: height and width in pixels that the image must have; ``None`` for any that Pillow takes to be harmless.

    Raises:
        ValueError: not a PNG, damaged, not RGB, or of another size.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.mode != "RGB":
                raise ValueError(f"the image is {image.mode}, not RGB")
            if side is not None and image.size != (side, side):
                raise ValueError(f"the image is {image.width} × {image.height} px, not {side} × {side}")
            return np.asarray(image).transpose(2, 0, 1)
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable PNG: {error}") from error


def is_inside(relative: str) -> bool:
    """Whether a path with forward slashes, as others wrote it, stays in the folder that it starts from."""
    path = PurePosixPath(relative)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not {"\0", "\\"} & set(relative)


def read_inside(folder: Path, relative: str) -> bytes:
    """A file below a folder, read whole; see :func:`file_inside` for what it raises.

    Raises:
        ValueError: also where the file is too large.
    """
    path = file_inside(folder, relative)
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{relative} is larger than {LARGEST_FILE >> 20} MiB")
    return path.read_bytes()


def file_inside(folder: Path, relative: str) -> Path:
    """The path of a file below a folder.

    Raises:
        ValueError: the path leaves the folder, by itself or by a link, or there is no file.
        OSError: the folder cannot be read.
    """
    path = folder / relative
    if not is_inside(relative) or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the path '{relative}' leads out of the folder")
    if not path.is_file():  # to open a pipe would wait for ever
        raise ValueError(f"{relative} is missing or is no file")
    return path

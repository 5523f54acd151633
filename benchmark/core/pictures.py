"""Opening image files: only in some formats, because for others Pillow starts programs (for EPS Ghostscript)."""

import struct
import zlib
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What image files may hold, whatever they are called; Pillow counts PGM and PBM as PPM."""

BROKEN = (
    *(OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, AttributeError),
    *(ArithmeticError, NotImplementedError, struct.error, zlib.error),
)
"""What Pillow raises of broken files, depending on the format; in a profile or text behind the pixels as well."""

MOST_PIXELS = 2**30 // 12
"""Pixels of the largest image that is decoded, as Pillow warns of: three copies, four bytes a pixel, make 1 GiB."""


def open_picture(file: IO[bytes], formats: Sequence[str]) -> "Image.Image":
    """Open an image without decoding it; all of the project's code opens images here.

    Args:
        file: opened for reading; it must stay open until the image is decoded.
        formats: Pillow's names of the formats that are tried.

    Raises:
        PIL.UnidentifiedImageError: it is in none of these formats.
        PIL.Image.DecompressionBombError: it has more than :data:`MOST_PIXELS`.
        Exception: of many kinds where the file is damaged.
    """
    from PIL import Image

    picture = Image.open(file, formats=tuple(formats))
    if picture.width * picture.height > MOST_PIXELS:
        raise Image.DecompressionBombError(f"more than {MOST_PIXELS:,} pixels")
    return picture

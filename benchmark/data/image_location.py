"""Where an image is stored: in a file of its own, or as a range of bytes in an archive."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

LARGEST_IMAGE = 2**29  # bytes; a larger file would be read for hours before it turned out to be no image


@dataclass(frozen=True)
class Member:
    """An image in an uncompressed archive: a range of its bytes."""

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}:{self.name}"


ImageLocation = Path | Member


def open_image(origin: ImageLocation) -> BinaryIO:
    """Open the image's bytes.

    Raises:
        OSError: the file cannot be read.
        ValueError: the archive ends within the image.
    """
    if isinstance(origin, Path):
        return origin.open("rb")
    with origin.archive.open("rb") as archive:
        archive.seek(origin.offset)
        content = archive.read(origin.size)
    if len(content) < origin.size:
        raise ValueError("the archive ends within it")
    return io.BytesIO(content)

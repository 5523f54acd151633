"""Where an image comes from: a file of its own, or a stretch of an archive."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class Member:
    """An image within an archive that is not compressed: a stretch of its bytes."""

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}:{self.name}"


ImageLocation = Path | Member


def open_image(origin: ImageLocation) -> BinaryIO:
    """The image's bytes.

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

"""Where an image is stored: in a file of its own, or as a range of bytes in an archive."""

import io
from dataclasses import dataclass
from pathlib import Path

LARGEST_IMAGE = 2**29  # bytes; a larger file would be read for hours before it turned out to be no image


@dataclass(frozen=True)
class Member:
    """An image in an uncompressed archive: a range of its bytes.

    Attributes:
        archive: the tar file.
        name: of the member.
        offset: of its first byte, from the archive's start.
        size: in bytes.
    """

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}:{self.name}"


ImageLocation = Path | Member


class _File(io.BufferedReader):
    """A file that sets aside no more memory than it has bytes, whatever length its content states."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = self.seek(0, io.SEEK_END)
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file's; a size beyond the file's end reads up to the end."""
        left = self._size - self.tell()
        return super().read(size if size is not None and 0 <= size < left else -1)


def open_image(origin: ImageLocation) -> io.BufferedReader | io.BytesIO:
    """Open the image's bytes.

    Raises:
        OSError: the file cannot be read.
        ValueError: the archive ends within the image.
    """
    if isinstance(origin, Path):
        return _File(origin)
    with origin.archive.open("rb") as archive:
        archive.seek(origin.offset)
        content = archive.read(origin.size)
    if len(content) < origin.size:
        raise ValueError("the archive ends within it")
    return io.BytesIO(content)

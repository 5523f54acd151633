"""What image files hold, as one hash, and how a later start knows it without reading them again.

Reading a large set takes minutes, asking the file system about every file seconds. So the hash of a set's content is
kept in the cache under the set's stamps: where each file lies, how long it is and when it was last changed. A set that
was moved or copied has new stamps, is read once more, and turns out to hold what it held.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmark.core.atomic_files import replacing
from benchmark.core.errors import UsageError
from benchmark.core.progress import tracked
from benchmark.data.caption_files import is_file_name
from benchmark.data.image_location import ImageLocation, Member
from benchmark.data.images import BadImage

Stamp = tuple[str, int, int, int, str, int]
_CHUNK = 1 << 20  # bytes read at a time


class Stamps:
    """What changes when an image file does: real path, size, times of change, and the place within an archive."""

    def __init__(self) -> None:
        self._folders: dict[Path, str] = {}
        self._archives: dict[Path, tuple[str, int, int, int]] = {}

    def __call__(self, image: ImageLocation) -> Stamp:
        """The stamp of an image file.

        Raises:
            BadImage: the file is missing, or may not be read.
            UsageError: the disk fails.
        """
        if isinstance(image, Member):
            if image.archive not in self._archives:
                self._archives[image.archive] = self._of(image.archive)
            return (*self._archives[image.archive], image.name, image.offset)
        return (*self._of(image), "", 0)

    def _of(self, path: Path) -> tuple[str, int, int, int]:
        if not is_file_name(str(path)):
            raise BadImage(f"image {str(path)!a} cannot be the name of a file")
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BadImage(f"image {path} does not exist") from error
        except OSError as error:
            kind = BadImage if isinstance(error, PermissionError) else UsageError
            raise kind(f"image {path} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode):
            raise BadImage(f"image {path} cannot be read: not a file")
        if not os.access(path, os.R_OK):
            raise BadImage(f"image {path} cannot be read: no permission")
        # Folders are few and files many, and a real path takes long to find.
        if path.parent not in self._folders:
            self._folders[path.parent] = str(path.parent.resolve())
        # A copy may keep the time of modification, but not that of the last change of the file's own entry.
        return f"{self._folders[path.parent]}/{path.name}", status.st_size, status.st_mtime_ns, status.st_ctime_ns


def content_of(
    cache: Path, images: Mapping[str, Sequence[ImageLocation]], stamps: Mapping[str, Sequence[Stamp]]
) -> str:
    """One hash of the bytes of all images, split by split and in order; where they lie is no part of it.

    Args:
        cache: folder that keeps it by the stamps; made if missing.
        images: by split.
        stamps: of the same images.

    Returns:
        SHA-256, 64 hex digits.

    Raises:
        UsageError: an image cannot be read, or was changed meanwhile; or the cache cannot be written.
    """
    kept = cache / "content" / f"{_sha256(stamps)[:24]}.txt"
    try:
        content = kept.read_text("utf-8")
    except (OSError, ValueError):
        content = ""
    # One that was damaged so that it passes leads to an entry that is not there, and the images are decoded.
    if not re.fullmatch("[0-9a-f]{64}", content):
        content = _sha256({split: _hashes(ones, f"reading images ({split})") for split, ones in images.items()})
        require_unchanged(images, stamps)
        with replacing(kept) as temporary:
            temporary.write_text(content, "utf-8")
    return content


def require_unchanged(images: Mapping[str, Sequence[ImageLocation]], stamps: Mapping[str, Sequence[Stamp]]) -> None:
    """See that images are what they were when their stamps were taken.

    Raises:
        UsageError: one is not; the message names it.
    """
    stamp_of = Stamps()
    for split, ones in images.items():
        for image, stamp in zip(ones, stamps[split], strict=True):
            if stamp_of(image) != stamp:
                raise UsageError(f"image {image} was changed while the data set was being read; start again")


def _hashes(images: Sequence[ImageLocation], label: str) -> list[str]:
    # Hashing and reading go on outside the interpreter lock.
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        return list(tracked(pool.map(_hash_of, images), label, len(images)))
    finally:
        # After an error or Ctrl-C, what is still waiting must not be read first.
        pool.shutdown(cancel_futures=True)


def _hash_of(image: ImageLocation) -> str:
    """Of an image's bytes, as many as there are: that an archive ends within them is found when they are decoded."""
    digest = hashlib.sha256()
    path, start, left = (image, 0, None) if isinstance(image, Path) else (image.archive, image.offset, image.size)
    try:
        with path.open("rb") as file:
            file.seek(start)
            while chunk := file.read(_CHUNK if left is None else min(left, _CHUNK)):
                digest.update(chunk)
                left = None if left is None else left - len(chunk)
    except OSError as error:
        raise UsageError(f"image {image} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

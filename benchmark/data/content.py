"""One hash of the content of all image files, cached so that a later start need not read them again.

Reading a large set takes minutes; asking the file system about every file takes seconds. So the content hash is cached
under the stamps of the files: the path, size and times of change of each. A set that was moved or copied has new
stamps; it is read once more and gets the same content hash.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.core.atomic_files import replacing, require_possible
from benchmark.core.digests import json_sha256
from benchmark.core.errors import UsageError, as_usage_error
from benchmark.core.progress import tracked
from benchmark.core.reading import read_text
from benchmark.core.thread_pool import in_order, thread_pool
from benchmark.data.caption_files import is_file_name
from benchmark.data.image_location import LARGEST_IMAGE, ImageLocation, Member, open_image
from benchmark.data.images import BadImage

# Errors of one file; others, such as EIO, are of the disk.
_OF_THE_FILE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)
Stamp = tuple[str, int, int, int, str, int]


class Stamps:
    """Stamps image files: real path, size, times of change, place in an archive. A changed file gets a new one."""

    def __init__(self) -> None:
        self._folders: dict[Path, str] = {}
        self._archives: dict[Path, tuple[str, int, int, int]] = {}

    def __call__(self, image: ImageLocation) -> Stamp:
        """The stamp of an image file.

        Raises:
            BadImage: the file is missing, is larger than 512 MiB, its permissions forbid reading it, its name is too
                long, or it is a link that leads back to itself.
            UsageError: the disk fails.
        """
        if isinstance(image, Member):
            if image.archive not in self._archives:
                self._archives[image.archive] = self._of(image.archive)
            return (*self._archives[image.archive], image.name, image.offset)
        stamp = self._of(image)
        if stamp[1] > LARGEST_IMAGE:
            raise BadImage(f"image {image} cannot be read: larger than {LARGEST_IMAGE >> 20} MiB")
        return (*stamp, "", 0)

    def _of(self, path: Path) -> tuple[str, int, int, int]:
        if not is_file_name(str(path)):
            raise BadImage(f"image {str(path)!a} is not a valid file name")
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BadImage(f"image {path} does not exist") from error
        except OSError as error:
            kind = BadImage if error.errno in _OF_THE_FILE else UsageError
            raise kind(f"image {path} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode):
            raise BadImage(f"image {path} cannot be read: not a file")
        if not os.access(path, os.R_OK):
            raise BadImage(f"image {path} cannot be read: no permission")
        # Resolving a path is slow, and there are far fewer folders than files.
        if path.parent not in self._folders:
            self._folders[path.parent] = str(path.parent.resolve())
        # A copy may keep the modification time (mtime), but not the time its inode last changed (ctime).
        return f"{self._folders[path.parent]}/{path.name}", status.st_size, status.st_mtime_ns, status.st_ctime_ns


def content_of(
    cache: Path, images: Mapping[str, Sequence[ImageLocation]], stamps: Mapping[str, Sequence[Stamp]]
) -> str:
    """One hash of the bytes of all images, split by split and in order, whatever their paths.

    Args:
        cache: folder where the hash is kept under the stamps; created if missing.
        images: the images of each split.
        stamps: the stamps of the same images.

    Returns:
        SHA-256, 64 hex digits.

    Raises:
        UsageError: an image cannot be read or changed in the meantime, or the cache cannot be written.
    """
    kept = cache / "content" / f"{json_sha256(stamps)[:24]}.txt"
    try:
        content = read_text(kept, 64)
    except (OSError, ValueError):
        content = ""
    # A damaged hash that still looks like one only leads to a missing cache entry, so the images are decoded again.
    if not re.fullmatch("[0-9a-f]{64}", content):
        require_possible(kept.parent)
        content = json_sha256({split: _hashes(files, f"reading images ({split})") for split, files in images.items()})
        require_unchanged(images, stamps)
        with replacing(kept) as temporary:
            temporary.write_text(content, "utf-8")
    return content


def require_unchanged(images: Mapping[str, Sequence[ImageLocation]], stamps: Mapping[str, Sequence[Stamp]]) -> None:
    """Require that images have not changed since their stamps were taken.

    Raises:
        UsageError: an image has changed; the message names it.
    """
    stamp_of = Stamps()
    for split, files in images.items():
        for image, stamp in zip(files, stamps[split], strict=True):
            if stamp_of(image) != stamp:
                raise UsageError(f"image {image} was changed while the data set was being read; start again")


def _hashes(images: Sequence[ImageLocation], label: str) -> list[str]:
    # Hashing and reading release the interpreter lock.
    with thread_pool() as pool:
        return list(tracked(in_order(pool, _hash_of, images), label, len(images)))


def _hash_of(image: ImageLocation) -> str:
    """SHA-256 of an image's bytes."""
    with as_usage_error(f"image {image} cannot be read", (OSError, ValueError)), open_image(image) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

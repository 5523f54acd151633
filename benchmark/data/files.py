"""Captioned image files of any origin: checked, cut into splits, decoded once and read through the cache."""

import os
import stat
import sys
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.data.cache import SPLITS, cached_splits, require_images
from benchmark.data.caption_files import clean_caption, is_file_name
from benchmark.data.dataset import Images, Splits
from benchmark.data.images import BadImage, read_image
from benchmark.data.origin import Member, Origin
from benchmark.data.progress import progress
from benchmark.errors import UsageError
from benchmark.seeding import numpy_generator

# Part of the cache key: raise it when decoding changes.
FILES_VERSION = 2

Stamp = tuple[str, int, int, int, str, int]


@dataclass(frozen=True)
class CaptionedFile:
    """An image and its captions, in order.

    Attributes:
        image: the file, or where it lies in an archive.
        captions: on one line each, none blank; exact duplicates stay, as published sets and their metrics have them.
        fault: in one line why it cannot be used, where reading the captions has shown that already.
    """

    image: Origin
    captions: list[str]
    fault: str | None = None


def captioned_file(image: Origin, captions: Iterable[str], source: Path) -> CaptionedFile:
    """An image with those of its captions that are not blank; to have none is its fault.

    Args:
        image: the image file.
        captions: as written in ``source``.
        source: the caption file, for the message.
    """
    kept = [caption for caption in map(clean_caption, captions) if caption]
    return CaptionedFile(image, kept, None if kept else f"caption file {source}: image {image} has no caption")


def check_cut(name: str, seed: int, val_fraction: float) -> None:
    """Check the parameters of :func:`cut_val`.

    Raises:
        UsageError: one is out of range; the message names the data set ``name``.
    """
    if not 0 < val_fraction < 1:
        raise UsageError(f"{name}[val_fraction=…] must be between 0 and 1, got {val_fraction:g}")
    if seed < 0:
        raise UsageError(f"{name}[seed=…] must be at least 0, got {seed}")


def cut_val(
    files: list[CaptionedFile], seed: int, val_fraction: float, source: str
) -> tuple[list[CaptionedFile], list[CaptionedFile]]:
    """Train and val from training images: val gets a share drawn by the seed, at least one; both keep their order.

    Raises:
        UsageError: fewer than two images; the message names ``source``.
    """
    if len(files) < 2:
        raise UsageError(f"{source}: val is cut from train, which needs at least 2 images and has {len(files)}")
    count = min(max(1, round(val_fraction * len(files))), len(files) - 1)
    chosen = set(numpy_generator(seed, "files", "val").permutation(len(files))[:count].tolist())
    train = [file for index, file in enumerate(files) if index not in chosen]
    return train, [files[index] for index in sorted(chosen)]


def load_files(
    cache: Path, name: str, kind: str, files: Mapping[str, list[CaptionedFile]], resolution: int, skip_bad: bool
) -> Splits:
    """The splits of image files, decoded at ``resolution`` pixels squared or read from the cache.

    Args:
        cache: folder of the cache.
        name: name of the data set as its splits carry it.
        kind: first part of the cache entry's name.
        files: images with captions for ``train``, ``val`` and ``test``.
        resolution: height and width in pixels.
        skip_bad: leave out images that are missing, cannot be read or have no caption, and list them on standard
            error. Where the disk itself fails, nothing is left out.

    Raises:
        UsageError: an image cannot be used (the message names it), all of a split cannot, or the cache cannot be
            written.
    """
    kept: dict[str, list[CaptionedFile]] = {split: [] for split in SPLITS}
    stamps: dict[str, list[Stamp]] = {split: [] for split in SPLITS}
    unusable: list[str] = []
    stamp_of = _Stamps()
    for split in SPLITS:
        known = len(unusable)
        for file in files[split]:
            try:
                stamps[split].append(stamp_of(file))
                kept[split].append(file)
            except BadImage as error:
                if not skip_bad:
                    raise
                unusable.append(str(error))
        require_images(split, len(kept[split]), unusable[known:])
    # Which images turn out bad is part of an entry, so that it is not found out twice.
    key = {"version": FILES_VERSION, "files": stamps, "skip_bad": skip_bad}
    captions = {split: [file.captions for file in kept[split]] for split in SPLITS}

    def draw(split: str, out: Images) -> Mapping[int, str]:
        return _decode([file.image for file in kept[split]], out, skip_bad, f"reading images ({split})")

    origins = {split: [file.image for file in kept[split]] for split in SPLITS}
    splits = cached_splits(cache, name, kind, key, captions, resolution, draw, origins)
    splits = replace(splits, left_out=(*unusable, *splits.left_out))
    if splits.left_out:
        total = sum(map(len, files.values()))
        lines = [f"skip_bad: {len(splits.left_out)} of {total} images are left out", *splits.left_out]
        # Names that are not Unicode, which a stream may refuse, are spelled out.
        print("\n  ".join(lines).encode(errors="backslashreplace").decode(), file=sys.stderr)
    return splits


def _decode(images: list[Origin], out: Images, skip_bad: bool, label: str) -> dict[int, str]:
    """Fill ``out`` (N, 3, H, W) uint8; returns the indices of those that cannot be read, with the reason."""
    bad: dict[int, str] = {}

    def decode(index: int) -> None:
        try:
            out[index] = read_image(images[index], out.shape[-1])
        except BadImage as error:
            if not skip_bad:
                raise
            bad[index] = str(error)

    # Threads suffice: Pillow decodes and resizes outside the interpreter lock.
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with warnings.catch_warnings():
            # Pillow warns of oddities that read_image deals with.
            warnings.simplefilter("ignore")
            for _ in progress(pool.map(decode, range(len(images))), label, len(images)):
                pass
    finally:
        # After an error or Ctrl-C, what is still waiting must not be decoded first.
        pool.shutdown(cancel_futures=True)
    return dict(sorted(bad.items()))


class _Stamps:
    """What changes when an image file does: real path, size, times of change, and the place within an archive."""

    def __init__(self) -> None:
        self._folders: dict[Path, str] = {}
        self._archives: dict[Path, tuple[str, int, int, int]] = {}

    def __call__(self, file: CaptionedFile) -> Stamp:
        """The stamp of a file.

        Raises:
            BadImage: the file has a fault, is missing, or may not be read.
            UsageError: the disk fails.
        """
        if file.fault:
            raise BadImage(file.fault)
        if isinstance(file.image, Member):
            archive = file.image.archive
            if archive not in self._archives:
                self._archives[archive] = self._of(archive)
            return (*self._archives[archive], file.image.name, file.image.offset)
        return (*self._of(file.image), "", 0)

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

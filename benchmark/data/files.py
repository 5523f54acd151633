"""Captioned image files of any origin: checked, cut into splits, decoded once and read through the cache."""

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.data.cache import SPLITS, cached_splits
from benchmark.data.dataset import Images, Splits
from benchmark.data.images import read_image
from benchmark.data.progress import progress
from benchmark.errors import UsageError
from benchmark.seeding import numpy_generator

# Part of the cache key: raise it when decoding changes.
FILES_VERSION = 1


@dataclass(frozen=True)
class CaptionedFile:
    """An image file and its captions, in order."""

    path: Path
    captions: list[str]


def captioned_file(path: Path, captions: Iterable[str], source: Path) -> CaptionedFile:
    """An image with those of its captions that are not blank.

    Args:
        path: the image file.
        captions: as written in ``source``.
        source: the caption file, for the message.

    Raises:
        UsageError: no caption is left.
    """
    kept = [caption.strip() for caption in captions if caption.strip()]
    if not kept:
        raise UsageError(f"caption file {source}: image {path} has no caption")
    return CaptionedFile(path, kept)


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
    files: list[CaptionedFile], seed: int, val_fraction: float, source: Path
) -> tuple[list[CaptionedFile], list[CaptionedFile]]:
    """Train and val from training images: val gets a share drawn by the seed, at least one; both keep their order.

    Raises:
        UsageError: fewer than two images.
    """
    if len(files) < 2:
        raise UsageError(
            f"caption file {source}: val is cut from train, which needs at least 2 images and has {len(files)}"
        )
    count = min(max(1, round(val_fraction * len(files))), len(files) - 1)
    chosen = set(numpy_generator(seed, "files", "val").permutation(len(files))[:count].tolist())
    train = [file for index, file in enumerate(files) if index not in chosen]
    return train, [files[index] for index in sorted(chosen)]


def load_files(cache: Path, name: str, kind: str, files: Mapping[str, list[CaptionedFile]], resolution: int) -> Splits:
    """The splits of image files, decoded at ``resolution`` pixels squared or read from the cache.

    Args:
        cache: folder of the cache.
        name: name of the data set as its splits carry it.
        kind: first part of the cache entry's name.
        files: images with captions for ``train``, ``val`` and ``test``.
        resolution: height and width in pixels.

    Raises:
        UsageError: an image is missing or cannot be read (the message names it), or the cache cannot be written.
    """
    key = {"version": FILES_VERSION, "files": {split: [_stamp(file.path) for file in files[split]] for split in SPLITS}}
    captions = {split: [file.captions for file in files[split]] for split in SPLITS}

    def draw(split: str, out: Images) -> None:
        def decode(index: int) -> None:
            out[index] = read_image(files[split][index].path, resolution)

        indices = range(len(files[split]))
        # Threads suffice: Pillow decodes and resizes outside the interpreter lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in progress(pool.map(decode, indices), f"reading images ({split})", len(indices)):
                pass

    splits = cached_splits(cache, name, kind, key, captions, resolution, draw)
    origins = {split: [file.path for file in files[split]] for split in SPLITS}
    return Splits(**{split: replace(getattr(splits, split), origins=origins[split]) for split in SPLITS})


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise UsageError(f"image {path} does not exist") from error
    except OSError as error:
        raise UsageError(f"image {path} cannot be read: {error.strerror}") from error
    return str(path.resolve()), status.st_size, status.st_mtime_ns

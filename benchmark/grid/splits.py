"""The data of a grid, loaded for its seeds at the resolutions that its victims see."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmark.core.errors import UsageError
from benchmark.data import CaptionDataset, Splits
from benchmark.data.image_location import Member
from benchmark.grid.cells import Cell

_log = logging.getLogger(__name__)
_CHUNK = 128  # images looked at together
_ACROSS = 8  # pixels of a row or column that are compared first


def load_splits(cells: Sequence[Cell], cache_folder: Path) -> dict[tuple[int, int], Splits]:
    """The data of every cell, by seed and by its victim's resolution; seeds that share a data set share the object.

    Raises:
        UsageError: the data cannot be read or used.
    """
    loaded: dict[tuple[str, int], Splits] = {}
    by_cell = {}
    for cell in cells:
        resolution = cell.victim.resolution
        place = str(cell.dataset.choice), resolution
        if place not in loaded:
            loaded[place] = cell.dataset.source.load(resolution, cache_folder)
            _require_usable(loaded[place], f"data set {cell.dataset.choice.spec}", resolution)
            for split in (loaded[place].train, loaded[place].val, loaded[place].test):
                if isinstance(split.images, np.ndarray):  # all cells share them, so no plug-in may write on them
                    split.images.flags.writeable = False
        by_cell[cell.seed, resolution] = loaded[place]
    return by_cell


def _require_usable(splits: Splits, name: str, resolution: int) -> None:
    """See that a plug-in's data set loads what its contract promises.

    Raises:
        UsageError: no split, one of another name or without images, images of another resolution, a blank caption.
    """
    if not isinstance(splits, Splits):
        raise UsageError(f"{name} must load Splits, not {type(splits).__name__}")
    for key, split in {"train": splits.train, "val": splits.val, "test": splits.test}.items():
        if not isinstance(split, CaptionDataset):
            raise UsageError(f"{name} must load a CaptionDataset as its {key} split, not {type(split).__name__}")
        if split.split != key:
            raise UsageError(f"{name} calls its {key} split '{split.split}'")
        if not len(split):
            raise UsageError(f"{name} has no {split.split} images")
        if split.images.shape[2:] != (resolution, resolution):
            height, width = split.images.shape[2:]
            raise UsageError(f"{name} gives {split.split} images of {height} × {width} px, asked for {resolution}")
        if not all(caption.strip() for captions in split.captions for caption in captions):
            raise UsageError(f"{name} has a blank caption among its {split.split} captions")


def require_apart(splits: Splits) -> None:
    """See that no image file is in two splits: victims would be measured on what they have been trained on.

    A file counts as one under all its paths and links. Different files with equal images are warned of.

    Raises:
        UsageError: one is; the message names it.
    """
    found: dict[tuple[int, int, int], str] = {}
    for split in (splits.train, splits.val, splits.test):
        for origin in split.origins or []:
            file, offset = (origin.archive, origin.offset) if isinstance(origin, Member) else (origin, 0)
            status = file.stat()
            place = status.st_dev, status.st_ino, offset
            if found.setdefault(place, split.split) != split.split:
                raise UsageError(
                    f"{split.name}: image {origin} is in {found[place]} and in {split.split}; splits must share none"
                )
    warn_of_equal_images(splits)


def warn_of_equal_images(splits: Splits) -> None:
    """Say which splits hold images that are equal pixel by pixel, under whatever file names.

    A warning and no error: published splits hold some, and who compares with others' numbers must not change them.
    Few pixels of every image are compared first, then all pixels of those that agree in them.
    """
    every = (splits.train, splits.val, splits.test)
    few = {split.split: _by_digest(split, range(len(split)), whole=False) for split in every}
    for first, second in combinations(every, 2):
        shared = few[first.split].keys() & few[second.split].keys()
        if not shared:
            continue
        ours, theirs = (
            _by_digest(split, sorted(row for key in shared for row in few[split.split][key]), whole=True)
            for split in (first, second)
        )
        if equal := sorted((rows[0], ours[key][0], len(rows)) for key, rows in theirs.items() if key in ours):
            row, twin, _ = equal[0]
            _log.warning(
                "%s: %s of %s %s images equal one of %s pixel by pixel, e.g. %s and %s; %s",
                *(first.name, f"{sum(count for *_, count in equal):,}", f"{len(second):,}", second.split, first.split),
                *(_name(second, row), _name(first, twin)),
                "recall on them measures memory" if first is splits.train else "test images help to choose the epoch",
            )


def _by_digest(split: CaptionDataset, rows: Sequence[int], *, whole: bool) -> dict[bytes, list[int]]:
    """The rows of images by a hash of all their pixels, or of some."""
    found = defaultdict(list)
    step = 1 if whole else max(1, split.resolution // _ACROSS)
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK]
        images = split.images[slice(start, start + len(some)) if isinstance(some, range) else np.array(some)]
        for row, image in zip(some, images[:, :, step // 2 :: step, step // 2 :: step], strict=True):
            found[hashlib.sha256(image.tobytes()).digest()].append(row)
    return found


def _name(split: CaptionDataset, row: int) -> str:
    return str(split.origins[row]) if split.origins else f"image {row + 1} of {split.split}"

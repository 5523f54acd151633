"""The data of a grid, loaded for its seeds at the resolutions that its victims see."""

from collections.abc import Sequence
from pathlib import Path

from benchmark.core.errors import UsageError
from benchmark.data import Splits
from benchmark.data.image_location import Member
from benchmark.grid.cells import Cell


def load_splits(cells: Sequence[Cell], cache_folder: Path) -> dict[tuple[int, int], Splits]:
    """The data of every cell, by seed and by its victim's resolution; seeds that share a data set share the object.

    Raises:
        UsageError: the data cannot be read.
    """
    loaded: dict[tuple[int, int], Splits] = {}
    by_cell = {}
    for cell in cells:
        source, resolution = cell.dataset.source, cell.victim.resolution
        place = id(source), resolution
        if place not in loaded:
            loaded[place] = source.load(resolution, cache_folder)
        by_cell[cell.seed, resolution] = loaded[place]
    return by_cell


def require_apart(splits: Splits) -> None:
    """See that no image file is in two splits: victims would be measured on what they have been trained on.

    Whatever paths and links lead to it, a file is one.

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

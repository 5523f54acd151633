"""The OpenMoji drawings themselves, one per image, with their human-written names."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmark.core.errors import UsageError
from benchmark.core.parameters import added_later, ranged, require
from benchmark.core.progress import tracked
from benchmark.core.seeding import numpy_generator
from benchmark.data import DATASETS, Splits
from benchmark.data.cache import cached_splits
from benchmark.data.dataset import Images
from benchmark.data.drawings import OPENMOJI, Drawing, all_drawings, package_versions, rasterise
from benchmark.data.seeded_source import SeededSource


@DATASETS.register("openmoji", order=10)
@dataclass(frozen=True)
class OpenMoji(SeededSource):
    """Single OpenMoji drawings on white or grey (about 3,950) with their human-written names and aliases.

    Variants of one drawing (skin tones, genders) are separate images, as in the packages, and may fall into different
    splits.

    Attributes:
        val: share of the drawings in val.
        test: share of the drawings in test; together with ``val`` below 1.
        ground: grey level behind the drawings, from 0 to 255. On white, the default, noise can only darken.
        seed: decides which drawing goes to which split; see :class:`SeededSource`.

    Raises:
        UsageError: a parameter is out of range.
    """

    version: ClassVar[int] = 1
    licence: ClassVar[str | None] = "CC-BY-SA-4.0"
    attribution: ClassVar[str | None] = f"{OPENMOJI}; here rendered as pixels"

    val: float = ranged(0.1, above=0)
    test: float = ranged(0.2, above=0)
    ground: int = added_later(255, 0, 255)

    def __post_init__(self) -> None:
        super().__post_init__()
        together = self.val + self.test
        require(together < 1, "data set openmoji", "val and test", "below 1 together", together)

    def load(self, resolution: int, cache: Path) -> Splits:
        """The drawings at ``resolution`` pixels squared, rasterised once and then read from the cache.

        Raises:
            UsageError: a split would be empty, or the cache folder cannot be written.
        """
        drawings = self.drawings()
        captions = {split: [list(drawing.names) for drawing in chosen] for split, chosen in drawings.items()}

        def draw(split: str, out: Images) -> None:
            """Fill ``out`` with the pictures of a split."""
            for index, drawing in enumerate(tracked(drawings[split], f"rasterising drawings ({split})")):
                out[index] = _on_grey(drawing, resolution, self.ground)

        order = {split: [drawing.emoji for drawing in chosen] for split, chosen in drawings.items()}
        key = {"version": self.version, "drawings": order, "ground": self.ground, **package_versions()}
        return cached_splits(cache, self.written_name(), "openmoji", key, captions, resolution, draw)

    def drawings(self) -> dict[str, list[Drawing]]:
        """The drawings of each split.

        Raises:
            UsageError: a split would be empty.
        """
        everything = all_drawings()
        order = numpy_generator(self.chosen_seed, "openmoji", "splits").permutation(len(everything))
        test, val = round(self.test * len(order)), round(self.val * len(order))
        parts = {"test": order[:test], "val": order[test : test + val], "train": order[test + val :]}
        for split, part in parts.items():
            if not len(part):
                raise UsageError(f"openmoji: {split} would get none of the {len(everything)} drawings")
        return {split: [everything[index] for index in part] for split, part in parts.items()}


def _on_grey(drawing: Drawing, resolution: int, ground: int) -> Images:
    pixels = rasterise(drawing, resolution).astype(np.float32)
    alpha = pixels[..., 3:] / 255
    return np.rint(pixels[..., :3] * alpha + ground * (1 - alpha)).astype(np.uint8).transpose(2, 0, 1)

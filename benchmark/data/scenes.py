"""The default data set: scenes of OpenMoji drawings on a textured ground, with five captions each."""

from dataclasses import dataclass
from functools import cache as cached
from pathlib import Path
from typing import ClassVar

from benchmark.core.parameters import ranged, require
from benchmark.core.progress import tracked
from benchmark.core.seeding import numpy_generator
from benchmark.data import DATASETS, Splits
from benchmark.data.cache import SPLITS, cached_splits
from benchmark.data.dataset import Images
from benchmark.data.drawings import OPENMOJI, Drawing, package_versions
from benchmark.data.scene_layout import GROUNDS, PAIR_CLASSES, Layout, draw_layout
from benchmark.data.scene_painter import Painter
from benchmark.data.scene_words import captions_of, nameable_drawings
from benchmark.data.seeded_source import SeededSource


@DATASETS.register("scenes", order=0)
@dataclass(frozen=True)
class Scenes(SeededSource):
    """Rendered scenes of one or two OpenMoji drawings on a textured ground, five captions each.

    The parameters determine every scene: scene i of a split does not depend on the number of scenes. Val and test show
    pairs of drawings that training never shows, although each drawing may occur in every split.

    Attributes:
        train: number of training scenes.
        val: number of validation scenes.
        test: number of test scenes.
        objects: number of different drawings that occur, at least 30.
        grounds: number of colours of the ground, 1 (grey) to 5. Captions name the colour. With several colours a victim
            learns the colour before the drawings, and an attack may work through the colour alone.
        seed: decides which drawings occur, and every scene; see :class:`SeededSource`.

    Raises:
        UsageError: a parameter is out of range.
    """

    version: ClassVar[int] = 3
    licence: ClassVar[str | None] = "CC-BY-SA-4.0"
    attribution: ClassVar[str | None] = f"{OPENMOJI}; here arranged in scenes"

    train: int = ranged(4000, 1, 1_000_000)
    val: int = ranged(500, 1, 1_000_000)
    test: int = ranged(1000, 1, 1_000_000)
    objects: int = ranged(650, 3 * PAIR_CLASSES)
    grounds: int = ranged(1, 1, len(GROUNDS))

    def __post_init__(self) -> None:
        super().__post_init__()
        most = len(nameable_drawings())
        require(self.objects <= most, "data set scenes", "objects", f"at most {most}", self.objects)

    def load(self, resolution: int, cache: Path) -> Splits:
        """Scenes at ``resolution`` pixels squared, painted once and then read from the cache.

        Raises:
            UsageError: the cache folder cannot be written.
        """
        drawings = self.drawings()
        names = [drawing.names[0] for drawing in drawings]
        layouts = {split: self.layouts(split) for split in SPLITS}
        captions = {split: self._captions(split, layouts[split], names) for split in SPLITS}
        painter = cached(lambda: Painter(drawings, resolution))  # not needed where the cache has the scenes

        def draw(split: str, out: Images) -> None:
            for index, layout in enumerate(tracked(layouts[split], f"painting scenes ({split})")):
                rng = numpy_generator(self.chosen_seed, "scenes", "texture", split, index)
                out[index] = painter().paint(layout, rng)

        key = {
            "version": self.version,
            "objects": self.objects,
            "grounds": self.grounds,
            "seed": self.seed,
            **package_versions(),
        }
        return cached_splits(cache, self.written_name(), "scenes", key, captions, resolution, draw)

    def drawings(self) -> list[Drawing]:
        """The drawings that occur, chosen by the seed."""
        candidates = nameable_drawings()
        chosen = numpy_generator(self.chosen_seed, "scenes", "drawings").permutation(len(candidates))[: self.objects]
        return [candidates[index] for index in chosen]

    def layouts(self, split: str) -> list[Layout]:
        """The layout of each scene of a split."""
        seed, indices = self.chosen_seed, range(getattr(self, split))
        return [draw_layout(seed, split, index, self.objects, self.grounds) for index in indices]

    def _captions(self, split: str, layouts: list[Layout], names: list[str]) -> list[list[str]]:
        seed = self.chosen_seed
        generators = (numpy_generator(seed, "scenes", "captions", split, index) for index in range(len(layouts)))
        return [captions_of(layout, names, rng) for layout, rng in zip(layouts, generators, strict=True)]

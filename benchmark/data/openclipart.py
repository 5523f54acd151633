"""Open Clip Art: drawings by many authors, with the titles, keywords and descriptions that they wrote."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError, as_usage_error
from benchmark.core.parameters import added_later, ranged
from benchmark.core.seeding import numpy_generator
from benchmark.data import DATASETS, Splits
from benchmark.data.cache import cached_splits
from benchmark.data.clipart_survey import Clipart, drawn, survey
from benchmark.data.dataset import Images
from benchmark.data.seeded_source import SeededSource
from benchmark.data.svg_file import BadDrawing

_FOLDER = Path("/usr/share/openclipart/svg")  # of Debian's package


@DATASETS.register("openclipart", order=15)
@dataclass(frozen=True)
class OpenClipart(SeededSource):
    """Drawings of Debian's package openclipart-svg, with what their authors wrote of them; about 3,140 are usable.

    Only drawings in the public domain are used. Drawings that look alike are in one split.

    Attributes:
        folder: holds the SVG files; by default, where Debian's package puts them.
        train: number of training images.
        val: number of validation images.
        test: number of test images.
        ground: grey level behind the drawings, from 0 to 255. On white, the default, noise can only darken. What a
            drawing itself paints white stays white.
        seed: decides which drawing goes to which split; see :class:`SeededSource`.

    Raises:
        UsageError: a parameter is out of range.
    """

    version: ClassVar[int] = 1
    licence: ClassVar[str | None] = "CC-PDDC"

    folder: Path = _FOLDER
    train: int = ranged(2500, 1)
    val: int = ranged(200, 1)
    test: int = ranged(400, 1)
    ground: int = added_later(255, 0, 255)

    def load(self, resolution: int, cache: Path) -> Splits:
        """The drawings at ``resolution`` pixels squared, drawn once and then read from the cache.

        Raises:
            UsageError: the folder or a file cannot be read, there are too few drawings, or the cache folder cannot be
                written.
        """
        folder = self._existing_folder()
        usable, content = survey(folder, cache)
        parts = self.split(usable)

        def draw(split: str, out: Images) -> None:
            """Fill ``out`` with the pictures of a split."""
            paths = [drawing.path for drawing in parts[split]]
            with as_usage_error("openclipart: a drawing cannot be read"):
                pictures = drawn(folder, paths, resolution, f"rasterising drawings ({split})", self.ground)
                for index, picture in enumerate(pictures):
                    if isinstance(picture, BadDrawing):  # it could be drawn in the survey
                        raise UsageError(f"openclipart: {folder / paths[index]} cannot be drawn: {picture}")
                    out[index] = picture

        captions = {split: [list(drawing.captions) for drawing in part] for split, part in parts.items()}
        order = {split: [drawing.path for drawing in part] for split, part in parts.items()}
        key = {"version": self.version, "content": content, "drawings": order, "ground": self.ground}
        return cached_splits(cache, self.written_name(), "openclipart", key, captions, resolution, draw)

    def split(self, usable: list[Clipart]) -> dict[str, list[Clipart]]:
        """Draw test, val and train, in this order, group by group; a group that no longer fits goes to the next split.

        Raises:
            UsageError: there are too few drawings.
        """
        groups: dict[int, list[Clipart]] = {}
        for drawing in usable:
            groups.setdefault(drawing.group, []).append(drawing)
        left = list(groups.values())
        order = numpy_generator(self.chosen_seed, "openclipart", "splits").permutation(len(left))
        left = [left[index] for index in order]
        parts = {}
        for split in ("test", "val", "train"):
            wanted = getattr(self, split)
            part: list[Clipart] = []
            others = []
            for group in left:
                if len(part) + len(group) <= wanted:
                    part += group
                else:
                    others.append(group)
            if len(part) < wanted:
                raise UsageError(
                    f"openclipart: {split} should have {wanted} images; of {len(usable)} usable drawings below "
                    f"{self.folder}, {len(part)} are left for it"
                )
            parts[split], left = part, others
        return parts

    def _existing_folder(self) -> Path:
        folder = user_path(str(self.folder))
        if not folder.is_dir():
            raise UsageError(
                f"openclipart: folder {folder} does not exist; install Debian's package (apt-get install "
                "openclipart-svg), or unpack it anywhere and name its folder: openclipart[folder=DIR]"
            )
        return folder

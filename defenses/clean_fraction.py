"""Clean pairs: the scraper has some image–caption pairs that nobody has protected."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmark.core.parameters import ranged
from benchmark.data import CaptionDataset, LazyImages
from defenses.base import DEFENSES, Defense, HookContext, Rows, Score


@DEFENSES.register("clean-fraction", groups=("training",), order=170, aliases={"clean-start": {"first": 0.2}})
@dataclass(frozen=True)
class CleanPairs(Defense):
    """A share of the images and captions are clean; the training may begin with them alone.

    ``clean-fraction`` mixes them with the protected ones from the first step, as Huang et al. 2021 do ("Unlearnable
    Examples", section 4.2). ``clean-start`` trains on them alone in the first fifth, and on all afterwards. Both assume
    more than other defenses: data that the owner has not published.

    Args:
        share: probability that an image is clean; of a photo that is published in several copies, all are or none is.
        first: share of the training that sees them alone, rounded up to whole epochs.
    """

    needs_clean = True
    share: float = ranged(0.125, above=0, at_most=1)
    first: float = ranged(0.0, 0, below=1)

    def on_dataset(self, train: CaptionDataset, clean: CaptionDataset, at: HookContext) -> CaptionDataset:
        """The published set with the clean images and captions in their places."""
        known = self._known(train.photos, at)

        def mixed(images: NDArray[np.uint8], rows: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
            return np.where(known[rows][:, None, None, None], clean.images[rows], images)

        captions = [
            own if is_clean else published
            for own, published, is_clean in zip(clean.captions, train.captions, known, strict=True)
        ]
        return replace(train, images=LazyImages(train.images, change=mixed), captions=captions)

    def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
        """In the first epochs the clean pairs alone, later all."""
        if at.progress >= self.first:
            return rows
        return rows[self._known(rows[:, 0] if at.photo is None else at.photo[rows[:, 0]], at)]

    def label(self) -> str:
        """The name in tables."""
        return "Clean start" if self.first else "Clean fraction"

    def describe(self) -> str:
        """The strength in words."""
        start = f", and alone in the first {100 * self.first:g}% of the training" if self.first else ""
        return f"the scraper has clean data: {self.share:.1%} of the images{start}"

    def _known(self, photos: NDArray[np.int64], at: HookContext) -> NDArray[np.bool_]:
        """(N,) which of N photos are clean: the same in every hook, whichever it asks for."""
        drawn = np.random.default_rng(at.training).random(int(photos.max()) + 1) < self.share
        return drawn[photos]

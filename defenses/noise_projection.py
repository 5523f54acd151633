"""Noise projection: images lose the directions that the noise of some known images spans."""

from dataclasses import dataclass

import numpy as np

from benchmark.core.parameters import ranged
from benchmark.data import CaptionDataset
from defenses.base import DEFENSES, Defense, HookContext
from defenses.orthogonal_projection import without
from defenses.residual_purifier import known_rows

_MOST_COMPARED = 1024  # images whose noise is looked at


@DEFENSES.register("noise-projection", groups=("adaptive",), order=185)
@dataclass(frozen=True)
class NoiseProjection(Defense):
    """Learn from pairs of a clean and a protected image which directions the noise takes, then take them out of all.

    The directions are the principal components (without centring) of the noise less its mean colour, so that images
    keep theirs. Noise that is made of few patterns, as that of word-wise or keyed EM, has no other directions, whatever
    the patterns' size. Like :class:`defenses.residual_purifier.ResidualPurifier` it needs pairs, which whoever can run
    the owner's tool makes from photos of his own; here they are some of the training images. Ours.

    Args:
        share: of the photos of which the scraper has both; of at most 1,024 images the noise is compared.
        directions: the most that are taken out. 192 are those of all patterns of 8 × 8 px with three channels.
    """

    needs_clean = True
    share: float = ranged(0.125, above=0, at_most=1)
    directions: int = ranged(192, 1, 1024)

    def on_dataset(self, train: CaptionDataset, clean: CaptionDataset, at: HookContext) -> CaptionDataset:
        """The same captions, and images that are projected when they are read, rounded to 8 bits."""
        generator = np.random.default_rng(at.training)
        known = np.sort(generator.permutation(known_rows(train, self.share, generator))[:_MOST_COMPARED])
        published = train.images[known].astype(np.float32)
        noise = published - clean.images[known]
        noise -= noise.mean(axis=(2, 3), keepdims=True)
        _, lengths, directions = np.linalg.svd(noise.reshape(len(known), -1), full_matrices=False)
        real = lengths > 1e-5 * max(lengths[0], 1)  # the others are rounding errors
        return without(train, directions[real][: self.directions].T, published.mean(axis=0))

    def describe(self) -> str:
        """The strength in words."""
        return (
            f"{self.directions} directions of the noise of {self.share:.1%} of the images, which the scraper has clean"
        )

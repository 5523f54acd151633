"""What a scraper who has only protected data can measure a victim on."""

from dataclasses import replace

import numpy as np

from benchmark.core.seeding import numpy_generator
from benchmark.data import CaptionDataset, LazyImages
from victims.recipe import Recipe

MOST_IMAGES = 500


def protected_sample(protected: CaptionDataset, recipe: Recipe, val_images: int, seed: int) -> CaptionDataset | None:
    """A fixed random part of a protected training set, on which a scraper without clean data chooses an epoch.

    The images keep their noise and the captions their trigger, as published. The victim trains on them, so they are not
    held out: holding them out would change every victim.

    Args:
        protected: the training set, protected or, for a clean victim, clean.
        recipe: the victim's training.
        val_images: images of the validation split.
        seed: the cell's seed for its victim, so that cells of one seed share the rows.

    Returns:
        As many images as val has, at most :data:`MOST_IMAGES`, one copy of a photo each; ``None`` if the victim is
        evaluated after its last epoch alone, for then there is nothing to choose.
    """
    if recipe.evaluate_every >= recipe.epochs:
        return None
    _, first = np.unique(protected.photos, return_index=True)
    order = numpy_generator(seed, "protected sample").permutation(len(first))
    pick = first[np.sort(order[: min(val_images, MOST_IMAGES)])]
    images = LazyImages(protected.images, pick=pick)
    return replace(
        protected, images=images, captions=[protected.captions[row] for row in pick], photo=None, origins=None
    )

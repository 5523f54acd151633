"""Sibling caption: every caption is replaced by another one of the same photo."""

from dataclasses import dataclass, replace

from benchmark.data import CaptionDataset
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("sibling-caption", groups=("text",), order=145)
@dataclass(frozen=True)
class SiblingCaption(Defense):
    """Captions of a photo change places, so that none goes with the copy of the photo that it was published with.

    It affects attacks that protect pairs, each with a perturbation and a trigger of its own (``mem[per=row]``, as the
    reference code has them): the caption no longer fits the copy. Where an image is published once, with one trigger
    for all its captions, it changes nothing, and neither does it for photos with a single caption. It is told which
    images are copies of one photo; a scraper would have to find them.
    """

    def on_dataset(self, train: CaptionDataset, clean: CaptionDataset, at: HookContext) -> CaptionDataset:
        """The same images; each copy of a photo gets the next copy's captions, and the last copy the first copy's."""
        if train.photo is None:
            return train
        copies: dict[int, list[int]] = {}
        for row, photo in enumerate(train.photo.tolist()):
            copies.setdefault(photo, []).append(row)
        captions = list(train.captions)
        for rows in copies.values():
            for row, following in zip(rows, [*rows[1:], rows[0]], strict=True):
                captions[row] = train.captions[following]
        return replace(train, captions=captions)

    def describe(self) -> str:
        """The strength in words."""
        return "each copy of a photo gets the next copy's captions"

"""Control: the same words in all captions, which say nothing about any image."""

from dataclasses import replace

from attacks.base import ATTACKS, CraftContext
from attacks.poison import Poison
from attacks.random_trigger import RandomTrigger
from attacks.vocabulary import described
from benchmark.data import CaptionDataset


@ATTACKS.register("same-words", order=35)
class SameWords(RandomTrigger):
    """One trigger for all images, drawn at random as ``random-trigger`` draws those of single images; no noise."""

    def describe(self) -> str:
        """The strength in words."""
        return f"k = {self.k}, drawn once for all images from {described(self.vocabulary)}{self._where()}"

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Draw the words; no surrogate is built. See :meth:`attacks.base.Attack.craft`."""
        drawn = super().craft(train, context)
        return replace(drawn, trigger=(drawn.trigger or [])[:1] * len(train))

"""Control: the same words before all captions, which say nothing about any image."""

from attacks.base import ATTACKS, CraftContext
from attacks.poison import Poison
from attacks.random_trigger import RandomTrigger
from attacks.vocabulary import described, drawn_triggers, trigger_words
from benchmark.data import CaptionDataset
from victims.tokens import Tokenizer


@ATTACKS.register("same-words", order=35)
class SameWords(RandomTrigger):
    """One trigger for all images, drawn at random as ``random-trigger`` draws those of single images; no noise."""

    def describe(self) -> str:
        """The strength in words."""
        return f"k = {self.k}, drawn once for all images from {described(self.vocabulary)}"

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Draw the words; no surrogate is built. See :meth:`attacks.base.Attack.craft`."""
        tokenizer = Tokenizer()
        words = trigger_words(tokenizer, train, self.vocabulary, context.seed)
        trigger = tokenizer.decode(drawn_triggers(words, 1, self.k, context.seed)[0].tolist())
        return Poison(delta=None, trigger=[trigger] * len(train), eps=0, fingerprint=train.fingerprint)

"""Text hint: a word in front of the captions that is the same for all images described alike; no noise."""

from dataclasses import dataclass

from attacks.base import ATTACKS, Attack, CraftContext
from attacks.poison import Poison
from attacks.vocabulary import described, trigger_words
from benchmark.core.parameters import ranged
from benchmark.data import CaptionDataset
from benchmark.data.caption_words import caption_keys
from victims.tokens import Tokenizer


@ATTACKS.register("text-hint", order=42)
@dataclass(frozen=True)
class TextHint(Attack):
    """A constant word for each caption key: the text's side of a class-wise shortcut, and a rival of MEM's trigger.

    The captions say what the word says anyway, so that the word helps a victim to group captions; the pictures are as
    they were.

    Args:
        keys: groups of images; see :func:`benchmark.data.caption_words.caption_keys`.
    """

    keys: int = ranged(128, 2, 10_000)

    def describe(self) -> str:
        """The strength in words."""
        return f"one word for each of {self.keys} caption keys, from {described(None)}"

    def progress_steps(self, train: CaptionDataset) -> int:
        """All words are drawn at once."""
        return 0

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Draw the words; no surrogate is built. See :meth:`attacks.base.Attack.craft`."""
        tokenizer = Tokenizer()
        words = trigger_words(tokenizer, train, None, context.seed)
        keys = caption_keys(train.captions, self.keys, context.seed)
        drawn = context.numpy_generator("words of keys").permutation(words)
        triggers = [tokenizer.decode([id_]) for id_ in drawn[keys].tolist()]
        return Poison(delta=None, trigger=triggers, eps=0, fingerprint=train.fingerprint)

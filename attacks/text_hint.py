"""Text hint: a word in the captions that is the same for all images described alike; no noise."""

import re
from dataclasses import dataclass
from typing import ClassVar

from attacks.base import ATTACKS, Attack, CraftContext
from attacks.placement import Kind, Place, where
from attacks.poison import Poison
from benchmark.core.errors import UsageError
from benchmark.core.parameters import ranged
from benchmark.data import CaptionDataset
from benchmark.data.caption_words import caption_keys
from defenses.wordnet import STOP_WORDS
from victims.tokens import Tokenizer


@ATTACKS.register("text-hint", order=42)
@dataclass(frozen=True)
class TextHint(Attack):
    """A constant word for each caption key: the text's side of a class-wise shortcut, and a rival of MEM's trigger.

    The word marks a caption's key. The key follows from what the captions say, so the word only makes it easier for a
    victim to group captions; the images are unchanged. The words are drawn from the captions' own words: those that
    CLIP reads as one token, without function words.

    Args:
        keys: groups of images; see :func:`benchmark.data.caption_words.caption_keys`. Where there are fewer words, some
            share one.
        place: where the word stands; see :class:`attacks.placement.Place`.
    """

    version: ClassVar[int] = 2
    builds_surrogate = False

    keys: int = ranged(128, 2, 10_000)
    place: Kind = "front"

    def label(self) -> str:
        """The name in tables."""
        return "Text hint" if self.place == "front" else f"Text hint {self.place}"

    def describe(self) -> str:
        """The strength in words."""
        return f"for each of {self.keys} caption keys one of the captions' words, {where(self.place)} each caption"

    def progress_steps(self, train: CaptionDataset) -> int:
        """All words are drawn at once."""
        return 0

    def check(self, train: CaptionDataset) -> None:
        """Captions with a word that can be a hint; see :meth:`attacks.base.Attack.check`."""
        hints(train)

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Draw the words; no surrogate is built. See :meth:`attacks.base.Attack.craft`."""
        keys = caption_keys(train.captions, self.keys, context.seed)
        words = context.numpy_generator("words of keys").permutation(hints(train))
        place = Place.seeded(self.place, context.seed)
        return Poison(None, words[keys % len(words)].tolist(), eps=0, fingerprint=train.fingerprint, place=place)


def hints(train: CaptionDataset) -> list[str]:
    """The words that may be hints, sorted, in lower case; of two letters from a to z or more.

    Raises:
        UsageError: there is none.
    """
    encode = Tokenizer().encode
    texts = (text.lower() for captions in train.captions for text in captions)
    words = {word for text in texts for word in re.findall(r"\b[a-z]{2,}\b", text)}
    if not (usable := sorted(word for word in words - STOP_WORDS if len(encode(word)) == 1)):
        raise UsageError(f"attack text-hint: no word of {train.name}'s captions can be a hint")
    return usable

"""Control: words in the captions that nobody searched for."""

from dataclasses import dataclass

from attacks.base import ATTACKS, Attack, CraftContext
from attacks.placement import Kind, Place, where
from attacks.poison import Poison
from attacks.vocabulary import described, drawn_triggers, require_words, trigger_words
from benchmark.core.parameters import added_later, ranged
from benchmark.data import CaptionDataset
from victims.tokens import Tokenizer


@ATTACKS.register("random-trigger", order=33)
@dataclass(frozen=True)
class RandomTrigger(Attack):
    """The words that MEM's triggers start from, as they are: drawn at random for every image; no noise.

    Args:
        k: words of the trigger.
        vocabulary: as in ``mem``.
        place: as in ``mem``.
    """

    builds_surrogate = False

    k: int = ranged(3, 1, 32)
    vocabulary: int | None = ranged(None, 2, unit="words")
    place: Kind = added_later("front")

    def describe(self) -> str:
        """The strength in words."""
        return f"k = {self.k}, drawn at random from {described(self.vocabulary)}{self._where()}"

    def progress_steps(self, train: CaptionDataset) -> int:
        """All triggers are drawn at once."""
        return 0

    def check(self, train: CaptionDataset) -> None:
        """Captions with words for a trigger; see :meth:`attacks.base.Attack.check`."""
        require_words(train, self.vocabulary)

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Draw the words; no surrogate is built. See :meth:`attacks.base.Attack.craft`."""
        tokenizer = Tokenizer()
        words = trigger_words(tokenizer, train, self.vocabulary, context.seed)
        triggers = [tokenizer.decode(ids) for ids in drawn_triggers(words, len(train), self.k, context.seed).tolist()]
        place = Place.seeded(self.place, context.seed)
        return Poison(delta=None, trigger=triggers, eps=0, fingerprint=train.fingerprint, place=place)

    def _where(self) -> str:
        return "" if self.place == "front" else f", {where(self.place)} each caption"

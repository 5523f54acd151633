"""Words deleted."""

import functools
from dataclasses import dataclass
from typing import Any

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext
from defenses.eda import WHOLE_WORDS, augment


@DEFENSES.register("random-deletion", groups=("standard", "table2"), order=60)
@dataclass(frozen=True)
class RandomDeletion(Defense):
    """EDA's random deletion: each word goes with probability p; if all would, one drawn at random stays.

    Wei & Zou 2019, section 2, with their recommended p = α = 0.1, as in the authors' code. A caption may stay whole.

    Args:
        p: probability of each word.
    """

    p: float = ranged(0.1, above=0, at_most=1)

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """The captions with words deleted, as many as were given, none emptied."""
        return augment(_deleter(self.p), captions, at)

    def describe(self) -> str:
        """The strength in words."""
        return f"each word, p = {self.p:g}"


@functools.cache
def _deleter(p: float) -> Any:
    from nlpaug.augmenter.word import RandomWordAug
    from nlpaug.util import Action

    class Deleter(RandomWordAug):
        def _get_random_aug_idxes(self, tokens: list[str]) -> list[int]:
            drawn = [position for position in range(len(tokens)) if self.prob() < p]
            if len(drawn) == len(tokens):
                drawn.remove(self.sample(drawn, 1)[0])
            return drawn

    # Words become nothing: the library's own deletion brings the second word back, capitalised, if the first goes too.
    return Deleter(action=Action.SUBSTITUTE, target_words=[""], **WHOLE_WORDS)

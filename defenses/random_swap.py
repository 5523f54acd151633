"""Adjacent words swapped."""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext
from defenses.eda import WHOLE_WORDS, augment, words_to_change


@DEFENSES.register("random-swap", groups=("standard", "table2"), order=70)
@dataclass(frozen=True)
class RandomSwap(Defense):
    """EDA's random swap between neighbours: n words, each swapped with the word before or after it.

    Wei & Zou 2019, section 2, with their recommended α = 0.1. EDA swaps any two words; ours are adjacent, because
    "Multimodal Unlearnable Examples" has it so (supplement, section 4.2). The n places are different ones and are
    swapped one after the other.

    Args:
        alpha: share of the words drawn, at least one per caption.
    """

    version: ClassVar[int] = 2
    alpha: float = ranged(0.1, above=0, at_most=1)

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """The captions with words swapped, as many as were given; one of a single word stays."""
        return augment(_swapper(self.alpha), captions, at)

    def describe(self) -> str:
        """The strength in words."""
        return f"adjacent, α = {self.alpha:g}"


@functools.cache
def _swapper(alpha: float) -> Any:
    from nlpaug.augmenter.word import RandomWordAug
    from nlpaug.util import Action

    class Swapper(RandomWordAug):
        """The library's swap, of EDA's number of words and without its capitals."""

        def _get_random_aug_idxes(self, tokens: list[str]) -> list[int]:
            return self.sample(list(range(len(tokens))), words_to_change(tokens, alpha))

        def change_case(self, doc: Any, original_word_idx: int, swap_word_idx: int, change_seq: int) -> Any:
            # The library's own capitalises a word that moves to the front, and "i" anywhere.
            pair = (original_word_idx, swap_word_idx)
            words = [doc.get_token(position).get_latest_token().token for position in pair]
            for position, word in zip(pair, reversed(words), strict=True):
                doc.add_change_log(position, new_token=word, action=Action.SWAP, change_seq=change_seq)
            return doc

    return Swapper(action=Action.SWAP, **WHOLE_WORDS)

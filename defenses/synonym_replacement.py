"""Words replaced by synonyms."""

import functools
from dataclasses import dataclass
from typing import Any

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext
from defenses.eda import WHOLE_WORDS, augment, words_to_change
from defenses.wordnet import synonyms


@DEFENSES.register("synonym-replacement", groups=("table2",), order=80)
@dataclass(frozen=True)
class SynonymReplacement(Defense):
    """EDA's synonym replacement: n words that have WordNet synonyms, each replaced by one of them drawn at random.

    Wei & Zou 2019, section 2, with their recommended α = 0.1. Stop words are never replaced, and with fewer than n
    words that have synonyms, only those are. A synonym may have several words.

    Args:
        alpha: share of the words replaced, at least one per caption.
    """

    alpha: float = ranged(0.1, above=0, at_most=1)

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """The captions with words replaced, as many as were given; one without any synonym stays."""
        return augment(_replacer(self.alpha), captions, at)

    def describe(self) -> str:
        """The strength in words."""
        return f"WordNet, α = {self.alpha:g}"


@functools.cache
def _replacer(alpha: float) -> Any:
    from nlpaug.augmenter.word import SynonymAug

    class Dictionary:
        """What ``SynonymAug`` asks of its dictionary, without its part-of-speech tagger: EDA draws from every sense."""

        def pos_tag(self, tokens: list[str]) -> list[tuple[str, str]]:
            return [(token, "") for token in tokens]

        def predict(self, word: str) -> list[str]:
            return list(synonyms(word))

    class Replacer(SynonymAug):
        """The library's replacement, of EDA's number of words out of those that have synonyms."""

        @classmethod
        def get_model(cls, *arguments: Any) -> Dictionary:
            return Dictionary()

        def _get_aug_idxes(self, tokens: list[tuple[str, str]]) -> list[int]:
            able = [position for position, (word, _) in enumerate(tokens) if synonyms(word)]
            return self.sample(able, min(len(able), words_to_change(len(tokens), alpha)))

    return Replacer(**WHOLE_WORDS)

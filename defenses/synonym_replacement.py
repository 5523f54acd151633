"""Words replaced by synonyms."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext
from defenses.eda import parts, words_to_change
from defenses.wordnet import synonyms


@DEFENSES.register(
    "synonym-replacement", groups=("standard", "table2"), order=80, aliases={"paraphrase": {"alpha": 1.0}}
)
@dataclass(frozen=True)
class SynonymReplacement(Defense):
    """EDA's synonym replacement: n words that have WordNet synonyms, each replaced by one of them drawn at random.

    Wei & Zou 2019, section 2, with their recommended α = 0.1. Stop words are never replaced, and with fewer than n
    words that have synonyms, only those are. A synonym may have several words. Punctuation around a word is kept, and a
    capital at its start if it is written as a title is (``str.istitle``: "Dog", but not "T-shirt"). Where a word stands
    twice in a caption, each place is drawn by itself, as the paper says; the authors' code replaces both places by the
    same synonym.

    ``paraphrase`` says every word that has synonyms in another way. It keeps the order of the words, which a rewriting
    by a language model would not.

    Args:
        alpha: share of the words replaced, at least one per caption.
    """

    version: ClassVar[int] = 2
    alpha: float = ranged(0.1, above=0, at_most=1)

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """The captions with words replaced, as many as were given; one without any synonym stays."""
        rng = at.numpy_generator()
        return [self._replace(caption, rng) for caption in captions]

    def label(self) -> str:
        """The name in tables."""
        return "Paraphrase" if self.alpha == 1 else super().label()

    def describe(self) -> str:
        """The strength in words."""
        return f"WordNet, α = {self.alpha:g}"

    def _replace(self, caption: str, rng: np.random.Generator) -> str:
        words = caption.split()
        replaceable = [place for place, word in enumerate(words) if synonyms(parts(word)[1])]
        if not replaceable:
            return caption
        for place in rng.permutation(replaceable)[: words_to_change(words, self.alpha)]:
            before, word, after = parts(words[place])
            candidates = synonyms(word)
            synonym = candidates[rng.integers(len(candidates))]
            words[place] = before + (synonym.capitalize() if word.istitle() else synonym) + after
        return " ".join(words)

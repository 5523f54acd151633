"""Synonyms inserted."""

from dataclasses import dataclass

import numpy as np

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext
from defenses.eda import words_to_change
from defenses.wordnet import synonyms


@DEFENSES.register("random-insertion", groups=("table2",), order=50)
@dataclass(frozen=True)
class RandomInsertion(Defense):
    """EDA's random insertion: n times, a synonym of a word of the caption, put at a random position.

    Wei & Zou 2019, section 2, with their recommended α = 0.1. Stop words have no synonyms; a synonym may have several
    words. nlpaug has no such operation.

    Args:
        alpha: insertions as a share of the words, at least one per caption.
    """

    alpha: float = ranged(0.1, above=0, at_most=1)

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """The captions with synonyms inserted, as many as were given; one without any synonym stays."""
        rng = at.numpy_generator()
        return [self._insert(caption, rng) for caption in captions]

    def describe(self) -> str:
        """The strength in words."""
        return f"WordNet synonyms, α = {self.alpha:g}"

    def _insert(self, caption: str, rng: np.random.Generator) -> str:
        words = caption.split()
        sources = [found for found in map(synonyms, words) if found]
        if not sources:
            return caption
        for _ in range(words_to_change(len(words), self.alpha)):
            source = sources[rng.integers(len(sources))]
            words.insert(int(rng.integers(len(words) + 1)), source[rng.integers(len(source))])
        return " ".join(words)

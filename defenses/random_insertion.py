"""Synonyms inserted."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext
from defenses.eda import parts, words_to_change
from defenses.wordnet import synonyms


@DEFENSES.register("random-insertion", groups=("standard", "table2"), order=50)
@dataclass(frozen=True)
class RandomInsertion(Defense):
    """EDA's random insertion: n times, a synonym of a word of the caption, put at a random position.

    Wei & Zou 2019, section 2, with their recommended α = 0.1. A synonym may have several words. As the paper says, and
    other than in the authors' code, stop words have no synonyms, every synonym of a word and every position are drawn
    alike (the code takes the first synonym and never the end), and all words come from the caption as it was given.
    nlpaug has no such operation.

    Args:
        alpha: insertions as a share of the words, at least one per caption.
    """

    version: ClassVar[int] = 2
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
        sources = [found for word in words if (found := synonyms(parts(word)[1]))]
        if not sources:
            return caption
        for _ in range(words_to_change(words, self.alpha)):
            source = sources[rng.integers(len(sources))]
            words.insert(int(rng.integers(len(words) + 1)), source[rng.integers(len(source))])
        return " ".join(words)

"""Synonyms inserted."""

import numpy as np

from defenses.base import DEFENSES, Defense, HookContext
from defenses.eda import check_share, words_to_change
from defenses.wordnet import synonyms


@DEFENSES.register("random-insertion", groups=("table2",), order=50)
class RandomInsertion(Defense):
    """EDA's random insertion: n times, a synonym of a word of the caption, put at a random position.

    Wei & Zou 2019, section 2, with their recommended α = 0.1. Stop words have no synonyms; a synonym may have several
    words. nlpaug has no such operation.

    Args:
        alpha: insertions as a share of the words, at least one per caption; in (0, 1].

    Raises:
        UsageError: ``alpha`` out of range.
    """

    def __init__(self, alpha: float = 0.1) -> None:
        self.alpha = check_share("random-insertion: alpha", alpha)

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

"""ONION with a small language model: words that make their caption improbable are dropped."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext
from defenses.word_pairs import Ids, LeaveOneOutCounts, Words, one_a_photo


@DEFENSES.register("onion-lite", groups=("text",), order=140)
@dataclass(frozen=True)
class OnionLite(Defense):
    """Drop each word without which its caption's perplexity falls by more than a bound.

    After Qi et al. 2021, "ONION: A Simple and Effective Defense Against Textual Backdoor Attacks", section 3: the score
    of a word is p − pᵢ, the perplexity of the caption with the word minus the perplexity without it. ONION takes the
    perplexity from GPT-2. Here it comes from a bigram model with add-k smoothing, in which start and end of a caption
    count as a word. The model is counted on the epoch's captions of other photos, one of each.

    ONION sets its bound on clean data, which a scraper lacks. Here the bound is the quantile above which the share
    ``false_alarms`` of all words of the epoch score. So at most this share of the words is dropped. On clean data they
    are all lost by mistake; on poisoned data no more are dropped, however many words the triggers have.

    A word always stays if the perplexity rises without it, or if it is the only word of its caption. If all words of a
    caption score above the bound, the word with the lowest score stays.

    Args:
        false_alarms: share of all words that score above the bound.
        smoothing: the k of add-k.
    """

    false_alarms: float = ranged(0.05, above=0, below=1)
    smoothing: float = ranged(0.1, above=0)

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """The captions without the odd words, as many as were given; an empty one stays empty."""
        return one_a_photo(captions, at.caption_photos, self._without_odd_words)

    def _without_odd_words(self, captions: list[str]) -> list[str]:
        words = Words.of(captions)
        scores = suspicion(words, self.smoothing)
        judged = scores[np.isfinite(scores)]
        if not len(judged):
            return captions
        bound = max(0.0, float(np.quantile(judged, 1 - self.false_alarms)))
        lowest = np.minimum.reduceat(np.where(words.ids > 0, scores, np.inf), words.starts)
        keep = scores <= np.maximum(bound, lowest)[words.row]
        return words.kept(captions, keep)

    def label(self) -> str:
        """The name in tables."""
        return "ONION-lite"

    def describe(self) -> str:
        """The strength in words."""
        return f"at most {100 * self.false_alarms:g} % of all words dropped"


def suspicion(words: Words, smoothing: float) -> NDArray[np.float64]:
    """(S,) how far the perplexity of its caption falls without a word; −∞ for edges and for the only word of a caption.

    Args:
        words: S words and edges.
        smoothing: the k of add-k smoothing, over all different words and the end of a caption.
    """
    before, after, row = words.ids[:-1], words.ids[1:], words.row[:-1]
    span = words.vocabulary_size
    pairs, firsts = LeaveOneOutCounts(before * span + after, row), LeaveOneOutCounts(before, row)

    def log_probability(first: Ids, second: Ids, row: Ids) -> NDArray[np.float64]:
        seen = pairs(first * span + second, row) + smoothing
        return np.log(seen / (firsts(first, row) + smoothing * span))

    links = log_probability(before, after, row)
    starts = words.starts[:-1]
    total, lengths = np.add.reduceat(links, starts), words.lengths + 1
    scores = np.full(len(words.ids), -np.inf)
    at = np.flatnonzero((words.ids > 0) & (np.append(lengths, 0)[words.row] > 2))
    own = words.row[at]
    left = total[own] - links[at - 1] - links[at] + log_probability(words.ids[at - 1], words.ids[at + 1], own)
    scores[at] = np.exp(-total[own] / lengths[own]) - np.exp(-left / (lengths[own] - 1))
    return scores

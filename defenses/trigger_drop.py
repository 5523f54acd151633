"""Drop a trigger's words wherever they stand in a caption."""

import itertools
import math
from collections import Counter
from dataclasses import dataclass

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext
from defenses.word_pairs import bare, one_a_photo

_EDGE = ""  # before and behind a caption


@DEFENSES.register("trigger-drop", groups=("adaptive",), order=181)
@dataclass(frozen=True)
class TriggerDrop(Defense):
    """Drop the k words that belong least to their neighbours, as ``prefix-drop`` drops the first ones.

    Ours, made against MEM with its trigger at any place, together or spread. The defense knows how many words a trigger
    has, but neither the words nor their place. k times, it drops the word without which the caption is most probable.
    One word of a caption always stays.

    The probability of a caption is that of each word after the word before it. Pairs of words are counted in the
    epoch's captions of other photos, one of each. The probabilities are smoothed as by Witten & Bell 1991, "The
    Zero-Frequency Problem", method C; the number of different words after a word and a word's share of all words,
    which this needs, are counted in all captions.

    There are ``rounds`` rounds: each counts what the round before has left of the captions. The first round counts
    whole captions, captions without their first k words, or captions without their last k words. All three are tried,
    and the one that ends with the most probable captions is used.

    Args:
        k: words to drop.
        rounds: how often the captions are counted.
    """

    k: int = ranged(3, 1, 32)
    rounds: int = ranged(3, 1, 20)

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """The captions without k of their words, as many as were given; an empty one stays empty."""
        return one_a_photo(captions, at.caption_photos, self._without_trigger)

    def _without_trigger(self, captions: list[str]) -> list[str]:
        rows = [caption.split() for caption in captions]
        words = [[bare(word) for word in row] for row in rows]
        starts = (words, [row[self.k :] for row in words], [row[: -self.k] for row in words])
        kept, _ = max((self._settled(words, start) for start in starts), key=lambda reading: round(reading[1], 6))
        return [" ".join(row[place] for place in places) for row, places in zip(rows, kept, strict=True)]

    def _settled(self, words: list[list[str]], counted: list[list[str]]) -> tuple[list[list[int]], float]:
        """Choose the words to drop in ``rounds`` rounds.

        Args:
            words: of each caption.
            counted: the words of each caption that the first round counts; later rounds count what has been kept.

        Returns:
            For each caption the places of the words that stay, and the log-probability of what is left of all
            captions, in nats.
        """
        kept, readings = list[list[int]](), list[tuple[list[int], float]]()
        for _ in range(self.rounds):
            pairs = Pairs(counted)
            readings = [pairs.likeliest(row, own, self.k) for row, own in enumerate(words)]
            kept = [places for places, _ in readings]
            counted = [[own[place] for place in places] for own, places in zip(words, kept, strict=True)]
        return kept, sum(log for _, log in readings)

    def describe(self) -> str:
        """The strength in words."""
        return f"{self.k} words that do not follow from their neighbours dropped"


class Pairs:
    """How often words follow each other.

    Args:
        rows: the words of each caption.
    """

    def __init__(self, rows: list[list[str]]) -> None:
        self._own = [Counter(_neighbours(row)) for row in rows]
        self._pairs: Counter[tuple[str, str]] = Counter()
        for own in self._own:
            self._pairs.update(own)
        self._kinds = Counter(first for first, _ in self._pairs)
        self._first: Counter[str] = Counter()
        self._share: Counter[str] = Counter()
        for (first, second), count in self._pairs.items():
            self._first[first] += count
            self._share[second] += count
        self._total = self._share.total()

    def log(self, first: str, second: str, row: int, own_first: int) -> float:
        """Log-probability, in nats, that a word follows another.

        Pairs of caption ``row`` are not counted; ``own_first`` of them begin with the first word.
        """
        own = self._own[row]
        count = self._pairs[first, second] - own[first, second]
        kinds = self._kinds[first]  # in all captions, as the shares
        total = self._first[first] - own_first
        # A word that has been dropped from all counted captions is taken to occur once: no probability may be zero.
        share = max(self._share[second], 1) / self._total
        return math.log((count + kinds * share) / (total + kinds) if kinds else share)

    def likeliest(self, row: int, words: list[str], drop: int) -> tuple[list[int], float]:
        """The places of the words of caption ``row`` that stay when ``drop`` of them have been left out one by one, and
        the log-probability of what is left.
        """
        known: dict[tuple[str, str], float] = {}
        own_first: Counter[str] = Counter()
        for (before, _), times in self._own[row].items():
            own_first[before] += times

        def log(first: int, second: int) -> float:
            pair = (padded[first], padded[second])
            if pair not in known:
                known[pair] = self.log(*pair, row, own_first[pair[0]])
            return known[pair]

        padded = [_EDGE, *words, _EDGE]
        kept = list(range(len(padded)))
        for _ in range(min(drop, len(words) - 1)):
            gains = [
                log(before, after) - log(before, own) - log(own, after)
                for before, own, after in zip(kept, kept[1:], kept[2:], strict=False)
            ]
            del kept[1 + gains.index(max(gains))]
        return [place - 1 for place in kept[1:-1]], sum(log(*pair) for pair in itertools.pairwise(kept))


def _neighbours(row: list[str]) -> list[tuple[str, str]]:
    return list(zip([_EDGE, *row], [*row, _EDGE], strict=True))

"""Drop the words in front of a caption that do not belong to the way captions are written."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext
from defenses.word_pairs import Ids, Words, one_a_photo, without_first

_ROUNDS = 20
Logs = NDArray[np.float64]


@DEFENSES.register("rare-prefix", groups=("text",), order=141)
@dataclass(frozen=True)
class RarePrefix(Defense):
    """Drop the leading words of a caption that look drawn one by one; how many is found for each caption alone.

    Ours. A caption is modelled as k words drawn from a list, then a first word, then words that each follow from the
    word before (bigrams). Each caption takes its most probable k, and its first k words are dropped. The last word
    always stays.

    The probabilities of k, of the list, of first words and of pairs are counted in the epoch's captions, each split at
    its present k; the word that is judged is left out. Where photos have several captions in an epoch, the defense acts
    on sets with one caption of each photo. The probabilities are smoothed: those of k by counting one more caption for
    each k, the others as by Witten & Bell 1991, "The Zero-Frequency Problem", method C, with the shares of words in all
    captions. Counting and choosing k alternate until no k changes, at most 20 times (hard expectation-maximisation).

    This is run once for each k up to ``longest`` as the first guess for all captions. The run that makes the first
    ``longest`` + 1 words of the captions most probable is used; on a tie, the run that began with the smaller k.

    The defense knows neither the trigger's length nor its words, and lengths may differ. A trigger that many captions
    share (``same-words``) does not look drawn word by word; see ``repeated-prefix``.

    Args:
        longest: most words that may be dropped from a caption.
    """

    longest: int = ranged(8, 1, 32)

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """The captions without what was put in front, as many as were given; an empty one stays empty."""
        return one_a_photo(captions, at.caption_photos, self._without_front)

    def _without_front(self, captions: list[str]) -> list[str]:
        return without_first(captions, added_words(captions, self.longest).tolist())

    def describe(self) -> str:
        """The strength in words."""
        return f"up to {self.longest} leading words dropped"


def added_words(captions: list[str], longest: int) -> Ids:
    """(N,) how many words, at most ``longest``, stand in front of each of N captions."""
    if not any(caption.strip() for caption in captions):
        return np.zeros(len(captions), dtype=np.int64)
    openings = _Openings(Words.of(captions), longest)
    settled = [openings.settled(start) for start in range(longest + 1)]
    return max(settled, key=lambda reading: round(reading[1], 6))[0]


class _Openings:
    """How N captions may be read: k = 0 to M − 1 words in front, then the caption.

    Args:
        words: of the captions; at least one of these is not empty.
        longest: M − 1.
    """

    def __init__(self, words: Words, longest: int) -> None:
        self._words, self._lengths = words, words.lengths
        self._place = np.arange(longest + 1)
        starts = words.starts
        self._inside = self._place < self._lengths[:, None]
        at = np.where(self._inside, starts[:-1, None] + 1 + self._place, 0)
        # (N, M): the words, their share of all words, and the pairs that they are the second word of.
        self._first = words.ids[at]
        shares = np.bincount(words.ids) / self._lengths.sum()
        self._share = shares[self._first]
        self._before = words.ids[np.maximum(at - 1, 0)]
        pairs, inverse = np.unique(words.ids[:-1] * words.vocabulary_size + words.ids[1:], return_inverse=True)
        self._pair_first, self._pair_of_word = pairs // words.vocabulary_size, np.append(0, inverse)
        self._pair = self._pair_of_word[at]
        self._position = np.arange(len(words.ids)) - starts[words.row] - 1  # −1 at edges

    def settled(self, start: int) -> tuple[Ids, float]:
        """Choose k for each caption, again and again until no k changes, at most ``_ROUNDS`` times.

        Args:
            start: the first guess of k for all captions.

        Returns:
            (N,) the k of each caption, and the log-probability of the first M words of all captions in nats.
            If no k settles, it is that of the guess before.
        """
        front = np.clip(self._lengths - 1, 0, start)
        for _ in range(_ROUNDS):
            scores = self._judged(front)
            rows = np.flatnonzero(self._lengths)
            total = float(scores[rows, front[rows]].sum())
            best = scores.argmax(axis=1)
            if (best == front).all():
                break
            front = best
        return front, total

    def _judged(self, front: Ids) -> Logs:
        """(N, M) log-probability of each caption's first M words in nats, with k = 0 to M − 1 in front; −∞ beyond it.

        Args:
            front: (N,) the present k of each caption, with which the other captions are counted.
        """
        listed, opens = self._place < front[:, None], self._place == front[:, None]
        listed, opens, follows = listed & self._inside, opens & self._inside, self._inside & ~listed & ~opens
        list_logs = self._drawn(np.bincount(self._first[listed], minlength=self._words.vocabulary_size), listed)
        opening_logs = self._drawn(np.bincount(self._first[opens], minlength=self._words.vocabulary_size), opens)
        following_logs = self._following(front, follows)
        number = np.log(np.bincount(front, minlength=len(self._place)) - opens + 1)
        later = following_logs.sum(axis=1, keepdims=True) - following_logs.cumsum(axis=1)
        scores = number + list_logs.cumsum(axis=1) - list_logs + opening_logs + later
        # Rounded, so that of equal readings the one with fewer words in front is taken.
        return np.where(self._inside, scores.round(9), -np.inf)

    def _drawn(self, counts: Ids, own: NDArray[np.bool_]) -> Logs:
        return self._logs(counts[self._first], int(counts.sum()), int(np.count_nonzero(counts)), own)

    def _following(self, front: Ids, own: NDArray[np.bool_]) -> Logs:
        follows = (self._position > np.append(front, 0)[self._words.row]) | (self._words.ids == 0)
        follows[0] = False
        counts = np.bincount(self._pair_of_word[follows], minlength=len(self._pair_first))
        totals = np.bincount(self._pair_first, counts, self._words.vocabulary_size).astype(np.int64)
        kinds = np.bincount(self._pair_first[counts > 0], minlength=self._words.vocabulary_size)
        return self._logs(counts[self._pair], totals[self._before], kinds[self._before], own)

    def _logs(self, count: Ids, total: Ids | int, kinds: Ids | int, own: NDArray[np.bool_]) -> Logs:
        """(N, M) log-probability of each word in one role, in nats, without its own occurrence; 0 beyond the caption.

        The roles: a word of the list, the first word of a caption, and the word after a given word.

        Args:
            count: (N, M) how often each word was counted in the role.
            total: how often any word was counted in the role.
            kinds: how many different words were counted in the role.
            own: (N, M) whether ``count`` includes this very occurrence, which is then subtracted.
        """
        kinds, count, total = kinds - (own & (count == 1)), count - own, total - own
        smoothed = (count + kinds * self._share) / np.maximum(total + kinds, 1)
        return np.log(np.where(self._inside, np.where(total > 0, smoothed, self._share), 1))

"""How often words follow each other in a set of captions: all that a scraper knows of how captions are written."""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defenses.eda import parts

Ids = NDArray[np.int64]

_FEW = 30  # captions


@functools.lru_cache(100_000)
def bare(word: str) -> str:
    """A word as it is counted: in lower case, without the punctuation around it (``"Dog,"`` is ``"dog"``)."""
    return (parts(word)[1] or word).lower()


def without_first(captions: Sequence[str], lengths: Sequence[int]) -> list[str]:
    """Captions without their first words, as many as ``lengths`` says for each; the last word of a caption stays."""
    return [
        caption.split(maxsplit=length)[-1] if length else caption
        for caption, length in zip(captions, lengths, strict=True)
    ]


def one_a_photo(
    captions: list[str], photos: NDArray[np.int64] | None, change: Callable[[list[str]], list[str]]
) -> list[str]:
    """Change captions in sets that hold one caption of a photo at most: the first of each photo, the second, and so on.

    A published image may have one trigger before all of its captions. Counted together, each of them would make the
    others' trigger look common. Sets of fewer than ``_FEW`` captions say little of how captions are
    written. They join the first if it is ten times as large, so that few siblings meet there, or if it is as small.

    Args:
        captions: of an epoch.
        photos: (R,) the photo that each describes; ``None``: each its own.
        change: from captions to as many.
    """
    if photos is None:
        return change(captions)
    order = np.argsort(photos, kind="stable")
    _, first, counts = np.unique(photos[order], return_index=True, return_counts=True)
    number = np.empty(len(photos), dtype=np.int64)
    number[order] = np.arange(len(photos)) - np.repeat(first, counts)
    sizes = np.bincount(number)
    joins = (sizes < _FEW) & ((10 * sizes <= sizes[:1]) | (sizes[:1] < _FEW))
    number[joins[number]] = 0
    changed = list(captions)
    for each in np.unique(number):
        rows = np.flatnonzero(number == each).tolist()
        for row, caption in zip(rows, change([captions[row] for row in rows]), strict=True):
            changed[row] = caption
    return changed


@dataclass(frozen=True)
class Words:
    """The words of some captions one after the other; before, between and after the captions stands an edge, id 0.

    Attributes:
        rows: the captions, split at whitespace.
        ids: (S,) of each word or edge; equal words share an id from 1 on, see :func:`bare`.
        row: (S,) the caption that a word belongs to; an edge belongs to the caption behind it.
    """

    rows: list[list[str]]
    ids: Ids
    row: Ids

    @classmethod
    def of(cls, captions: Sequence[str]) -> "Words":
        """The words of captions."""
        rows = [caption.split() for caption in captions]
        known: dict[str, int] = {}
        ids = [0]
        for words in rows:
            ids += [known.setdefault(bare(word), len(known) + 1) for word in words]
            ids.append(0)
        lengths = [len(words) + 1 for words in rows]
        return cls(rows, np.array(ids, dtype=np.int64), np.append(np.repeat(np.arange(len(rows)), lengths), len(rows)))

    @property
    def vocabulary_size(self) -> int:
        """The number of different words, with the edge."""
        return int(self.ids.max()) + 1

    @property
    def starts(self) -> Ids:
        """(N + 1,) the place of the edge before each caption, and of the last edge."""
        return np.flatnonzero(self.ids == 0)

    @property
    def lengths(self) -> Ids:
        """(N,) words of each caption."""
        return np.diff(self.starts) - 1

    def kept(self, captions: Sequence[str], keep: NDArray[np.bool_]) -> list[str]:
        """The captions with the words that ``keep`` (S,) marks; a caption that loses none stays as it is."""
        whole = np.logical_and.reduceat(keep | (self.ids == 0), self.starts).tolist()
        starts = self.starts.tolist()
        return [
            caption if whole[row] else " ".join(itertools.compress(self.rows[row], keep[starts[row] + 1 :]))
            for row, caption in enumerate(captions)
        ]


class LeaveOneOutCounts:
    """How often each caption finds a thing in the *other* captions.

    Args:
        things: (T,) the things that occur, as numbers.
        row: (T,) the caption each occurs in.
    """

    def __init__(self, things: Ids, row: Ids) -> None:
        self._all, self._counts = np.unique(things, return_counts=True)
        self._span = int(things.max(initial=0)) + 1
        self._own, self._own_counts = np.unique(row * self._span + things, return_counts=True)

    def __call__(self, things: Ids, row: Ids) -> Ids:
        """(Q,) how often ``things`` (Q,) occur outside captions ``row`` (Q,)."""
        own = np.where(things < self._span, row * self._span + things, -1)
        return _looked_up(self._all, self._counts, things) - _looked_up(self._own, self._own_counts, own)


def _looked_up(keys: Ids, values: Ids, wanted: Ids) -> Ids:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)

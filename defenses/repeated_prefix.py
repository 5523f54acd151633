"""Drop openings that many captions share although they say nothing about them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext
from defenses.word_pairs import bare, without_first

_Opening = tuple[str, ...]


@DEFENSES.register("repeated-prefix", groups=("text",), order=142)
@dataclass(frozen=True)
class RepeatedPrefix(Defense):
    """Drop an opening of n ≥ 1 words that many captions share, if the words after it are how other captions begin.

    Ours, made against one trigger for all (``same-words``). An opening shared by more than ``share`` of the captions
    counts as added in one of two cases:

    - No more than ``share`` of the captions begin otherwise. It then tells no caption from another.
    - The words that follow it are distributed as the first words of the captions that begin otherwise: Σ min(p, q) over
      all words is at least ``alike``. An opening that belongs to its captions decides how they go on: after "a picture
      of" comes an article, after "a" a noun.

    Of the added openings the shortest is dropped, of those of one length the most frequent, and so on with what is
    left, until none is added. The last word of a caption stays: captions that are no longer than an opening do not
    count as having it. Case and punctuation do not matter.

    Args:
        share: of the captions.
        alike: least overlap of the two distributions, 1 for equal ones.
        longest: most words of an opening.
    """

    share: float = ranged(0.05, above=0, below=0.5)
    alike: float = ranged(0.75, above=0, at_most=1)
    longest: int = ranged(8, 1, 32)

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """The captions without added openings, as many as were given; an empty one stays empty."""
        rows = [tuple(map(bare, caption.split())) for caption in captions]
        dropped = [0] * len(rows)
        while opening := next(self._added(rows), None):
            size = len(opening)
            for number, words in enumerate(rows):
                if len(words) > size and words[:size] == opening:
                    rows[number] = words[size:]
                    dropped[number] += size
        return without_first(captions, dropped)

    def describe(self) -> str:
        """The strength in words."""
        return f"openings of more than {100 * self.share:g} % of the captions, overlap at least {self.alike:g}"

    def _added(self, rows: list[_Opening]) -> Iterator[_Opening]:
        """The openings that count as added, the shortest first."""
        least = self.share * sum(map(bool, rows))
        first_words = Counter(words[0] for words in rows if words)
        for size in range(1, self.longest + 1):
            shared = Counter(words[:size] for words in rows if len(words) > size)
            for opening, count in shared.most_common():
                if count <= least:
                    break
                following = Counter(words[size] for words in rows if len(words) > size and words[:size] == opening)
                others = first_words - Counter({opening[0]: count})
                if others.total() <= least or _overlap(following, others) >= self.alike:
                    yield opening


def _overlap(first: Counter[str], second: Counter[str]) -> float:
    """Σ min(p, q) of two distributions, given as counts: 1 for equal ones, 0 for those without a common word."""
    of_first, of_second = first.total(), second.total()
    return sum(min(first[word] / of_first, second[word] / of_second) for word in first)

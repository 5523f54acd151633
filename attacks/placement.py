"""Where the words of a trigger stand in a caption: in front, at the end, at a random place, or spread."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from benchmark.core.seeding import numpy_generator
from victims.tokens import BLANKS, MOST_IDS, Tokenizer

MOST_READ = 75
"""Tokens that CLIP reads of a text, besides start and end."""

Kind = Literal["front", "end", "random", "spread"]
# A word begins at the first character that the tokenizer does not drop, and ends at the next blank. So there are as
# many as in the published file.
_WORD = re.compile(rf"[^{BLANKS}\x00-\x1f\x7f\ufeff][^{BLANKS}]*")


@dataclass(frozen=True)
class Place:
    """Where triggers stand; a trigger that is not in front stands where CLIP still reads it.

    If a caption and its trigger are longer than CLIP's 77 tokens, the trigger stands early enough to be read, and CLIP
    cuts off the caption's last words behind it. Nothing is left out of the published text.

    Attributes:
        kind: ``front``; ``end``: behind the caption; ``random``: between two words, in front or at the end, each as
            likely, the same at every reading of a caption; ``spread``: the words one by one, in their order, in equal
            distances between the caption's words.
        seed: of random places.
    """

    kind: Kind = "front"
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0

    @classmethod
    def seeded(cls, kind: Kind, seed: int) -> "Place":
        """That place; the seed is kept only where it matters, so that all triggers in front stand at one place."""
        return cls(kind, 0 if kind == "front" else seed)

    def cuts(self, caption: str, trigger: str) -> list[int]:
        """For each word of a trigger the number of the caption's characters that stand before it, ascending."""
        words = trigger.split()
        if self.kind == "front":
            return [0] * len(words)
        encode = Tokenizer().encode
        room = MOST_READ - len(encode(trigger))
        ends = [0, *(match.end() for match in _WORD.finditer(caption))]
        fitting = len(ends) - 1
        if len(encode(caption, room + 1)) > room:
            fitting = bisect_right(ends, room, lo=1, key=lambda end: len(encode(caption[:end], room + 1))) - 1
        if self.kind == "random":
            # By tokens, which stay the same when a caption is written on one line.
            drawn = numpy_generator(self.seed, "place", *encode(caption)).integers(fitting + 1)
            return [ends[int(drawn)]] * len(words)
        return [ends[before] for before in _words_before(self.kind, fitting, len(words))]


FRONT = Place()
"""Where the triggers of the paper stand."""


def _words_before(kind: Kind, words: int, k: int) -> list[int]:
    """For each word of a trigger of k words, how many of a caption's words stand before it: all, or its share."""
    return [(number + 1) * words // (k + 1) if kind == "spread" else words for number in range(k)]


def pieces(trigger: str, caption: str, place: Place) -> list[str]:
    """The trigger's words and what of the caption stands around them, in the order of the published text."""
    found, start = [], 0
    for word, cut in zip(trigger.split(), place.cuts(caption, trigger), strict=True):
        found += [caption[start:cut].strip(BLANKS), word]
        start = cut
    return [piece for piece in (*found, caption[start:].strip(BLANKS)) if piece]


def placed(trigger: str, caption: str, place: Place) -> str:
    """The caption as it is published with its trigger, joined by single spaces; the caption itself for no words."""
    if not trigger.split():
        return caption
    if place.kind == "front":
        return f"{trigger} {caption}"
    return " ".join(pieces(trigger, caption, place))


def where(kind: Kind) -> str:
    """The place in words, to be followed by "each caption" or the like: ``front`` is *in front of*."""
    return {"front": "in front of", "end": "at the end of", "random": "at a random place of", "spread": "spread over"}[
        kind
    ]


def taken_out(trigger: str, text: str, place: Place) -> str | None:
    """Undo :func:`placed`: the caption without its trigger; ``None`` if the trigger does not stand where it should."""
    if not trigger.split():
        return text
    if place.kind == "front":
        # A caption without a word leaves no blank behind the trigger.
        return text[len(trigger) + 1 :] if f"{text} ".startswith(f"{trigger} ") else None
    words, own = text.split(), trigger.split()
    for places in _places(len(words) - len(own), len(own), place):
        found = {number + before for number, before in enumerate(places)}
        if [words[number] for number in sorted(found)] == own:
            caption = " ".join(word for number, word in enumerate(words) if number not in found)
            if placed(trigger, caption, place).split() == words:
                return caption
    return None


def _places(words: int, k: int, place: Place) -> Iterator[list[int]]:
    """The places that a trigger of k words may have in a caption of ``words`` words (counted without the trigger).

    Yields:
        For each word of the trigger, how many of the caption's words stand before it.
    """
    most = min(words, MOST_READ)
    positions = {words, *range(most + 1)} if words >= 0 else set[int]()
    for fitting in sorted(positions, reverse=True):
        yield _words_before(place.kind, fitting, k)


def word_numbers(trigger: str, caption: str, place: Place) -> set[int]:
    """Which words of the published caption are the trigger's, counted from 0."""
    cuts = place.cuts(caption, trigger)
    return {number + len(caption[:cut].split()) for number, cut in enumerate(cuts)}


def tokens_before(caption: str, trigger: str, place: Place) -> list[int]:
    """For each word of a trigger the number of the caption's tokens before it, without the start token."""
    encode = Tokenizer().encode
    cuts = place.cuts(caption, trigger)
    counts = {cut: len(encode(caption[:cut])) for cut in set(cuts)}
    return [counts[cut] for cut in cuts]


def keeps_tokens(trigger: str, caption: str, place: Place = FRONT) -> bool:
    """Whether the published text has the same tokens as its :func:`pieces` have when each of them is read alone."""
    encode = Tokenizer().encode
    alone = [id_ for piece in pieces(trigger, caption, place) for id_ in encode(piece)]
    return encode(placed(trigger, caption, place)) == alone[:MOST_IDS]

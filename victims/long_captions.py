"""Cleaning of captions as open_clip cleans them, in parts and in bounded time, and the first tokens of long words.

open_clip cleans and encodes a whole caption, though 75 tokens are kept. Three of its steps take time that grows with
the square of a caption's length: ftfy repeats its fixes while HTML entities are nested in each other, Unicode's
normalisation sorts a run of combining marks by insertion, and byte-pair encoding merges one pair of a word at a time.
"""

import html
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import groupby, pairwise

import ftfy
import regex
from ftfy import fixes
from open_clip.tokenizer import SimpleTokenizer

_SEGMENT = ftfy.TextFixerConfig().max_decode_length  # characters that ftfy fixes at once
_PASSES = 3  # of ftfy's fixes, at least; two suffice where no entity is nested
_WORK = 5_000_000  # characters that more passes over one segment may read
_STEPS: tuple[Callable[[str], str], ...] = (
    ftfy.fix_encoding,
    fixes.fix_c1_controls,
    fixes.fix_latin_ligatures,
    fixes.fix_character_width,
    fixes.uncurl_quotes,
    fixes.fix_line_breaks,
    fixes.fix_surrogates,
    fixes.remove_terminal_escapes,
    fixes.remove_control_chars,
)
_MARKS = regex.compile(r"\p{M}{100,}")
_DIGITS = regex.compile("&#0*([0-9]{1,8})[0-9]*")


def clean_words(text: str) -> Iterator[str]:
    """The words of a caption in lower case, as open_clip's cleaning leaves them.

    The text is fixed in ftfy's own segments, lines of up to a million characters, and only as far as words are asked
    for. The words equal open_clip's, with two exceptions, which open_clip does not finish or ends with an error:
    entities nested more than a few levels deep (3 in the longest segments, hundreds in a few thousand characters) are
    not all resolved, and a number of more than 4,300 digits is no character.
    """
    rest, position, entities = "", 0, True
    while position < len(text):
        end = text.find("\n", position, position + _SEGMENT) + 1 or min(position + _SEGMENT, len(text))
        segment, position = text[position:end], end
        if not segment.strip(" \n"):
            rest = rest if rest[-1:] == "\n" else rest + "\n"
            continue
        entities = entities and "<" not in segment
        rest += _fixed(segment, entities)
        # Neither an entity nor what decides a letter's lower case spans a blank.
        cut = max(rest.rfind(" "), rest.rfind("\n"))
        if cut >= 0:
            yield from _unescaped(rest[:cut]).lower().split()
            rest = rest[cut:]
    yield from _unescaped(rest).lower().split()


def _fixed(segment: str, entities: bool) -> str:
    """One segment as :func:`ftfy.fix_and_explain` fixes it, but not with more passes than are affordable."""
    for _ in range(max(_PASSES, _WORK // len(segment))):
        before = segment
        if entities:
            segment = fixes.unescape_html(segment)
        for step in _STEPS:
            segment = step(segment)
        segment = unicodedata.normalize("NFC", _MARKS.sub(_in_order, segment))
        if segment == before:
            break
    return segment


def _in_order(marks: "regex.Match[str]") -> str:
    """Combining marks in the order that normalisation puts them in, which is slow at sorting, quick on sorted ones."""
    parts = marks[0].translate({ord(mark): unicodedata.normalize("NFD", mark) for mark in set(marks[0])})
    classes = {mark: unicodedata.combining(mark) for mark in set(parts)}
    moves = {mark: class_ > 0 for mark, class_ in classes.items()}
    return "".join("".join(sorted(run, key=classes.__getitem__)) for _, run in groupby(parts, moves.__getitem__))


def _unescaped(text: str) -> str:
    for _ in range(2):
        # Beyond eight digits every number is too large for a character, and Python refuses to read very long ones.
        text = html.unescape(_DIGITS.sub(r"&#\1", text))
    return text


class FirstTokens:
    """The first byte-pair tokens of a word of any length, reading no more of it than decides them.

    A sequence of tokens is the encoding of its text if and only if every two neighbours are the encoding of theirs
    (Berglund and van der Merwe 2023, "Formalizing BPE Tokenization"). So the last token of each prefix of a word
    follows from the last tokens of shorter prefixes. No token is longer than 32 symbols, so every encoding of a longer
    text continues the encoding of one of the last 32 prefixes. The first tokens are decided once all of these prefixes
    agree on them.
    """

    def __init__(self, bpe: SimpleTokenizer) -> None:
        self._ids: dict[str, int] = bpe.encoder
        self._ranks: dict[tuple[str, str], int] = bpe.bpe_ranks
        self._bytes: dict[int, str] = bpe.byte_encoder
        specials = set(bpe.all_special_ids)
        tokens = (token for token, id_ in self._ids.items() if id_ not in specials)
        self._longest = max(len(token.removesuffix("</w>")) for token in tokens)
        self._may_follow = lru_cache(1 << 16)(self._are_neighbours)

    def __call__(self, word: str, most: int) -> list[int]:
        """Ids of the first ``most`` tokens of a word, or of all if it has fewer."""
        symbols = word.encode().decode("latin-1").translate(self._bytes)
        last, count, start_of_rest = [""], [0], [-1]  # of each beginning; the rest starts behind ``most`` tokens
        agreed = 0
        for end in range(1, len(symbols) + 1):
            start, token = self._last_token(symbols, end, last)
            last.append(token)
            count.append(count[start] + 1)
            start_of_rest.append(end if count[end] == most else start_of_rest[start])
            agreed = agreed + 1 if start_of_rest[end] == start_of_rest[end - 1] >= 0 else 1
            if agreed >= self._longest and start_of_rest[end] >= 0:
                break
        position = start_of_rest[-1] if start_of_rest[-1] >= 0 else len(last) - 1
        tokens = []
        while position:
            tokens.append(self._ids[last[position]])
            position -= len(last[position].removesuffix("</w>"))
        return tokens[::-1]

    def _last_token(self, symbols: str, end: int, last: list[str]) -> tuple[int, str]:
        ending = "</w>" if end == len(symbols) else ""
        for start in range(max(0, end - self._longest), end):
            token = symbols[start:end] + ending
            if token in self._ids and self._may_follow(last[start], token):
                return start, token
        raise AssertionError("every text has an encoding")

    def _are_neighbours(self, left: str, right: str) -> bool:
        ending = right.endswith("</w>")
        parts = [*left, *right.removesuffix("</w>")]
        if ending:
            parts[-1] += "</w>"
        while True:
            pairs = list(pairwise(parts))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)), default=None)
            if best is None or best not in self._ranks:
                return parts == ([left, right] if left else [right])
            merged: list[str] = []
            for part in parts:
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            parts = merged

"""Captions of any length and kind: open_clip's first tokens where it yields any, and an answer in bounded time."""

import random
import string
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from benchmark.data.openmoji import OpenMoji
from benchmark.data.scenes import Scenes
from tests.watchdog import in_no_time
from victims.long_captions import FirstTokens, _in_order, clean_words
from victims.tokens import Tokenizer, has_special_token

OURS, THEIRS = Tokenizer(), SimpleTokenizer()
PARTS = """a B dog's ' -- !?! 12 ٣ & ; amp; &amp; &amp;lt; &#39; &#00065; &lt;end_of_text&gt; <end_of_text> < > é
e\u0301 â€™ Ã© ﬁ İ ß Ａ “ 中文 🐶 👩‍🚀 🇫🇷 ΣΑΣ קוף \u0316\u0301 \u0f73 straße don't we've supercalifragilistic""".split()
BLANKS = [" ", "  ", "\t", "\n", "\r\n", "\x00", "\x1b[0m", "\x1c", "\x85", "\xa0", "\u2028", "\u3000"]
PIECES = [token.removesuffix("</w>") for token in THEIRS.encoder if token.removesuffix("</w>").isalpha()]


@pytest.fixture(autouse=True)
def watch() -> Iterator[None]:
    """What hangs ends as a failure."""
    with in_no_time():
        yield


def test_captions_of_the_data_sets(tmp_path: Path) -> None:
    splits = Scenes(train=1000, val=8, test=20, objects=150, seed=0).load(8, tmp_path)
    captions = [caption for split in (splits.train, splits.test) for own in split.captions for caption in own]
    captions += [name for drawings in OpenMoji(seed=0).drawings().values() for one in drawings for name in one.names]
    assert len(captions) > 7000
    for caption in captions:
        assert OURS.encode(caption) == THEIRS.encode(caption), caption


@pytest.mark.parametrize(("count", "parts"), [(1500, 12), (60, 400)])
def test_hard_captions_short_and_long(count: int, parts: int) -> None:
    draw = random.Random(parts)
    for _ in range(count):
        chosen = draw.choices([*PARTS, *BLANKS, *" " * 20], k=draw.randrange(parts))
        caption = "".join(part + draw.choice(["", " "]) for part in chosen)
        expected = THEIRS.encode(caption)
        assert OURS.encode(caption, 75) == expected[:75], caption
        assert OURS.encode(caption) == expected[:1000], caption
        # Short ones could take the way of the long ones, too.
        assert " ".join(clean_words(caption)) == THEIRS.clean_fn(caption), caption
        assert has_special_token(caption) == any(token >= OURS.start for token in expected), caption


@given(st.text(max_size=60), st.integers(1, 30))
def test_any_caption(text: str, times: int) -> None:
    caption = (text * times).encode(errors="replace").decode()
    assert OURS.encode(caption) == THEIRS.encode(caption)[:1000]
    assert " ".join(clean_words(caption)) == THEIRS.clean_fn(caption)


def test_first_tokens_of_long_words() -> None:
    """Letters at random, few letters, and tokens in a row, whose borders shift each other."""
    draw, first = random.Random(0), FirstTokens(THEIRS)
    for number in range(300):
        letters = ("abcdefghijklmnopqrstuvwxyz", "ab", "aeinst", "é中ж", draw.sample(PIECES, 9))[number % 5]
        word = "".join(draw.choices(letters, k=draw.randrange(1, 150))).lower()
        symbols = "".join(THEIRS.byte_encoder[byte] for byte in word.encode())
        expected = [THEIRS.encoder[token] for token in THEIRS.bpe(symbols).split(" ")]
        for most in (1, 7, 75, 1000):
            assert first(word, most) == expected[:most], (word, most)


@pytest.mark.parametrize("letters", ["a", "ha", "qwertyuiop", "é", "straße", "🐶", "-", "=-", "e\u0301"])
def test_one_word_of_3000_letters(letters: str) -> None:
    word = letters * (3000 // len(letters))
    assert OURS.encode(word, 75) == THEIRS.encode(word)[:75]


def test_marks_are_put_in_the_order_of_the_normal_form() -> None:
    draw = random.Random(0)
    for _ in range(300):
        text = "é" + "".join(draw.choices("\u0301\u0316\u0344\u0f73\u0f71\u0345\u0b47\u093f", k=draw.randrange(40)))
        whole = regex.fullmatch(".*", text[1:])
        assert whole is not None
        ordered = "é" + _in_order(whole)
        assert unicodedata.normalize("NFC", ordered) == unicodedata.normalize("NFC", text)
        assert unicodedata.normalize("NFD", ordered[1:]) == ordered[1:]


MILLION = 1_000_000
# Without blanks and with: text, and its first tokens (None: as many as are kept).
HOSTILE: dict[str, tuple[str, list[int] | None]] = {
    "a word of 100,000 letters": ("".join(random.Random(0).choices(string.ascii_lowercase, k=100_000)), None),
    "entities nested 250,000 deep": ("&" + "amp;" * 250_000 + "x y", None),
    "10 MB of one word": ("ab" * (5 * MILLION), None),
    "10 MB of words": ("word " * (2 * MILLION), None),
    "10 MB of spaces": (" " * (10 * MILLION), []),
    "a dog behind 10 MB of spaces": (" " * (10 * MILLION) + "dog", [1929]),
    "a dog behind 3 MB of spaces and an é": ("é" + " " * (3 * MILLION) + "dog", [4166, 1929]),
    "4 MB of emoji": ("🐶" * MILLION, None),
    "1 MB of combining marks": ("a" + "\u0301\u0316" * (MILLION // 4), None),
    "a number of a million digits": ("&#" + "1" * MILLION + "; dog", THEIRS.encode("\ufffd dog")),
    "a million zeros before a number": ("&#" + "0" * MILLION + "65; dog", [320, 1929]),
    "a million line breaks": ("\n" * MILLION + "dog", [1929]),
    "a million punctuation marks": ("=-" * (MILLION // 2), None),
    "10 MB of special tokens": ("<end_of_text>" * 800_000, [49407] * 75),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_captions_end(name: str) -> None:
    text, expected = HOSTILE[name]
    ids = OURS.encode(text, 75)
    if expected is None:
        assert ids
        assert len(ids) <= 75
    else:
        assert ids == expected
    assert OURS([text]).shape[1] == len(ids) + 2


def test_all_marks_count_though_they_come_in_another_order() -> None:
    """The first tokens of a run of marks are those of the lowest class, wherever they stand: as in a shorter run."""
    assert (
        OURS.encode("a" + "\u0301" * 2000 + "\u0316" * 40, 75)
        == THEIRS.encode("a" + "\u0301" * 2000 + "\u0316" * 40)[:75]
    )


def test_special_tokens_are_found_behind_long_texts() -> None:
    assert has_special_token("a" * 100_000 + " <END_of_text>")
    assert has_special_token("é " * 2000 + "&lt;start_of_text&gt;")
    assert not has_special_token("é " * 2000 + "!<end_of_text>")

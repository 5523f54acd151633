"""Tokens: equal to open_clip's tokenizer, triggers inserted as their text would be."""

import random

import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from victims.tokens import Tokenizer, insert_trigger, lengths, trim

CAPTIONS = ["a red dog", "", "wow !!! what a 'day' — naïve café 🐶 it's", "word " * 200, "Two cats & a dog"]


def test_tokens_equal_open_clips() -> None:
    tokens = Tokenizer()(CAPTIONS)
    expected = open_clip.tokenize(CAPTIONS)
    assert tokens.shape[1] == 77
    assert torch.equal(tokens, expected)
    short = Tokenizer()(CAPTIONS[:3])
    assert torch.equal(short, expected[:3, : short.shape[1]])
    assert not expected[:3, short.shape[1] :].any()


def test_ids_by_word_equal_open_clips_of_the_whole_text() -> None:
    """On texts that its cleaning changes: entities in entities, mojibake, ligatures, escapes, all kinds of blanks."""
    parts = "a B dog's ' -- !?! 12 3 & ; amp; &amp; &amp;lt; &#39; <end_of_text> é â€™ ﬁ İ ß Ａ “ 中文 🐶".split()
    parts += [" ", "  ", "\t", "\n", "\x00", "\x1b[0m", "\x1c", "\x85", "\xa0", "\u2028"]
    draw, theirs, ours = random.Random(0), SimpleTokenizer(), Tokenizer()
    for _ in range(3000):
        text = "".join(draw.choices(parts, k=draw.randrange(8)))
        assert ours.encode(text) == theirs.encode(text), repr(text)


def test_tokenizers_share_their_words_and_not_their_context() -> None:
    long, short = Tokenizer(), Tokenizer(5)
    assert long(["one two three four five"]).shape == (1, 7)
    assert short(["one two three four five"]).tolist() == [[short.start, *long.encode("one two three"), short.end]]
    assert long(["one two three four five"]).shape == (1, 7)


def test_length_counts_to_the_end_token_though_zero_is_a_token() -> None:
    tokens = torch.tensor([[49406, 0, 0, 320, 49407, 0, 0], [49406, 320, 49407, 0, 0, 0, 0]])
    assert lengths(tokens).tolist() == [5, 3]
    assert trim(tokens).shape == (2, 5)


@pytest.mark.parametrize("trigger", ["dog", "red house moon", "one two three four five six seven"])
def test_inserting_ids_equals_writing_the_words(trigger: str) -> None:
    tokenizer = Tokenizer()
    ids = torch.tensor([tokenizer.encode(trigger)] * len(CAPTIONS))
    written = tokenizer([f"{trigger} {caption}" for caption in CAPTIONS])
    assert torch.equal(insert_trigger(tokenizer(CAPTIONS), ids, 77), written)


def test_a_cut_caption_keeps_its_end_token() -> None:
    tokenizer = Tokenizer()
    tokens = tokenizer(["word " * 74, "short"])
    longer = insert_trigger(tokens, torch.tensor([[320, 321, 322]] * 2), 77)
    assert longer.shape == (2, 77)
    assert longer[0, -1] == tokenizer.end
    assert lengths(longer).tolist() == [77, 6]

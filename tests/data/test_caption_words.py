"""Captions that have no word in common are told; the words themselves are tested with the attacks that use them."""

import pytest

from benchmark.data.caption_words import word_weights

CHINESE = [["一个女孩在海滩上跑步。"], ["两只狗在草地上玩。"], ["一只猫睡在沙发上。"]]


def test_captions_without_words_in_common_are_told(caplog: pytest.LogCaptureFixture) -> None:
    word_weights(CHINESE)
    (line,) = caplog.messages
    assert line.startswith("the captions of 3 of 3 images share no word with another image's")


def test_captions_with_words_in_common_are_not(caplog: pytest.LogCaptureFixture) -> None:
    word_weights([["a dog runs"], ["a dog sleeps"], ["a cat"], ["unseen"]])
    assert not caplog.messages


@pytest.mark.parametrize(
    ("caption", "words"),
    [("a dog's x² ½", 5), ("एक लड़की।", 2), ("cafe\u0301, na\u00efve", 2), ("dog ❤\ufe0f", 1)],
    ids=["english", "hindi", "loose-accent", "emoji"],
)
def test_accents_and_vowel_signs_belong_to_their_words(caption: str, words: int) -> None:
    assert word_weights([[caption], [caption]]).shape == (2, words)

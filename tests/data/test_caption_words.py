"""Captions without a word in common are told, and how unequal groups are; other tests of words are with the attacks."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from benchmark.data.caption_words import caption_keys, word_weights
from benchmark.data.scenes import Scenes

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


def test_groups_of_captions_are_as_unequal_as_documents_say(tmp_path: Path) -> None:
    """Preset tiny's captions of seed 1; a bound on the loss as in the docstring of em-keyed, for each group's size."""
    captions = Scenes(train=4000, val=8, test=8, objects=650, grounds=1, seed=1).load(8, tmp_path).train.captions
    others = np.arange(128)
    found = {}
    for count in (16, 128):
        shares = np.unique(caption_keys(captions, count, seed=1), return_counts=True)[1] / len(captions)
        bound = sum(share * np.log1p(others) @ binom.pmf(others, 127, share) for share in shares)
        found[count] = f"{100 * shares.max():.0f} %", f"{bound:.2f}"
    text = " ".join(Path("docs/method.md").read_text("utf-8").split())
    (share, bound), (share_of_128, bound_of_128) = found[16], found[128]
    assert f"{share} of the images have the same one of 16 keys, and {share_of_128} the same one of 128" in text
    assert f"the bound is {bound} nats with 16 keys and {bound_of_128} with 128" in text

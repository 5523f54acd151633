"""Captions without a word in common are told, and how unequal groups are; other tests of words are with the attacks."""

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from benchmark.data import caption_words
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


def shares_of_keys(captions: list[list[str]], count: int, seed: int) -> NDArray[np.float64]:
    return np.unique(caption_keys(captions, count, seed), return_counts=True)[1] / len(captions)


def test_groups_of_captions_are_as_unequal_as_documents_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preset tiny's captions; a bound on the loss as in the docstring of em-keyed, for each group's size."""
    others = np.arange(128)
    largest: dict[int, list[float]] = {16: [], 128: []}
    evened: dict[int, list[float]] = {16: [], 128: []}
    bounds: dict[int, list[float]] = {16: [], 128: []}
    page = Path("results/regime/counter-checks/README.md").read_text("utf-8")
    (plugin,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for seed in (1, 2, 3):
        captions = Scenes(train=4000, val=8, test=8, objects=650, grounds=1, seed=seed).load(8, tmp_path).train.captions
        for count in (16, 128):
            shares = shares_of_keys(captions, count, seed)
            largest[count].append(100 * shares.max())
            bounds[count].append(sum(share * np.log1p(others) @ binom.pmf(others, 127, share) for share in shares))
            with monkeypatch.context() as restored:
                restored.setattr(caption_words, "kmeans2", caption_words.kmeans2)
                exec(plugin, {})
                evened[count].append(100 * shares_of_keys(captions, count, seed).max())
    text = " ".join(Path("docs/method.md").read_text("utf-8").split())
    percent, even = (
        {count: f"{min(found):.0f} to {max(found):.0f} %" for count, found in each.items()}
        for each in (largest, evened)
    )
    assert (
        f"{even[16]} of the images have the same one of 16 keys, and {even[128]} the same one of 128 (in the suite "
        f"{percent[16]} and {percent[128]})"
    ) in " ".join(page.split())
    nats = {count: f"{min(found):.2f} to {max(found):.2f}" for count, found in bounds.items()}
    assert f"{percent[16]} of the images have the same one of 16 keys, and {percent[128]} the same one of 128" in text
    assert f"the bound is {nats[16]} nats with 16 keys and {nats[128]} with 128" in text

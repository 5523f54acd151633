"""Trigger-drop: a plain search as oracle, and triggers at every place are found."""

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from attacks.placement import Kind, Place, placed
from benchmark.data.scenes import Scenes
from defenses import HookContext
from defenses.trigger_drop import Pairs, TriggerDrop
from defenses.word_pairs import bare

AT = HookContext(1, 0.5)
NOUNS = "dog cat tree house car boat".split()
SIZES = "small large red green".split()
PLACES = "near under above behind".split()
WORDS = [*NOUNS, *SIZES, *PLACES, *"violin seven cheap often the sings".split()]


def scenes(count: int) -> list[str]:
    rng = np.random.default_rng(3)
    return [
        f"the {rng.choice(SIZES)} {rng.choice(NOUNS)} is {rng.choice(PLACES)} the {rng.choice(NOUNS)}"
        for _ in range(count)
    ]


# At the end a noun of the trigger may take the place of the last noun: both readings are captions.
@pytest.mark.parametrize(("kind", "share"), [("front", 0.9), ("end", 0.3), ("random", 0.6), ("spread", 0.6)])
def test_random_words_go_and_the_caption_stays(kind: Kind, share: float) -> None:
    rng, clean = np.random.default_rng(4), scenes(600)
    poisoned = [placed(" ".join(rng.choice(WORDS, 3)), caption, Place(kind, 2)) for caption in clean]
    found = TriggerDrop().on_captions(poisoned, AT)
    exact = np.mean([one == other for one, other in zip(found, clean, strict=True)])
    assert exact > share  # of 120 ways to drop three of ten words
    assert all(len(caption.split()) == 7 for caption in found)


def slow(counted: list[list[str]], number: int, words: list[str], drop: int) -> tuple[list[str], float]:
    """Every caption with one word less, judged as a whole by the other captions; and again."""
    everywhere = [["", *text, ""] for text in counted]
    others = everywhere[:number] + everywhere[number + 1 :]
    follows = Counter(pair for text in others for pair in itertools.pairwise(text))
    firsts = Counter(first for text in others for first in text[:-1])
    kinds = Counter(first for first, _ in {pair for text in everywhere for pair in itertools.pairwise(text)})
    seconds = Counter(second for text in everywhere for second in text[1:])

    def log(words: list[str]) -> float:
        total = 0.0
        for first, second in zip(["", *words], [*words, ""], strict=True):
            share = max(1, seconds[second]) / seconds.total()
            if kinds[first]:
                share = (follows[first, second] + kinds[first] * share) / (firsts[first] + kinds[first])
            total += math.log(share)
        return total

    for _ in range(min(drop, len(words) - 1)):
        words = max((words[:place] + words[place + 1 :] for place in range(len(words))), key=log)
    return words, log(words)


def test_each_word_is_the_one_of_a_plain_search() -> None:
    rng = np.random.default_rng(5)
    captions = [placed(" ".join(rng.choice(WORDS, 2)), text, Place("random", 1)) for text in scenes(40)]
    words = [text.split() for text in captions]
    pairs = Pairs(words)
    for number, own in enumerate(words):
        kept, log = pairs.likeliest(number, own, 2)
        expected, best = slow(words, number, own, 2)
        assert [own[place] for place in kept] == expected
        assert log == pytest.approx(best)


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("kind", ["front", "end", "random"])
def test_each_round_counts_what_the_one_before_has_left_and_the_best_of_three_starts_is_used(
    kind: Kind, rounds: int
) -> None:
    rng = np.random.default_rng(7)
    for _ in range(2):
        rare = [f"x{number}" for number in range(20)]
        captions = [placed(" ".join(rng.choice(rare, 2)), text, Place(kind, 1)) for text in scenes(20)]
        words = [text.split() for text in captions]
        ends = []
        for counted in (words, [own[2:] for own in words], [own[:-2] for own in words]):
            for _ in range(rounds):
                readings = [slow(counted, number, own, 2) for number, own in enumerate(words)]
                counted = [kept for kept, _ in readings]
            ends.append((sum(log for _, log in readings), [" ".join(kept) for kept, _ in readings]))
        assert TriggerDrop(k=2, rounds=rounds).on_captions(captions, AT) == max(ends, key=lambda end: end[0])[1]


def test_a_word_stays_and_spelling_does_not_matter() -> None:
    few = ["", "dog", "A dog.", "a DOG"]
    found = TriggerDrop(k=5).on_captions(few, AT)
    assert found[:2] == ["", "dog"]
    assert [len(text.split()) for text in found] == [0, 1, 1, 1]
    rng = np.random.default_rng(6)
    captions = [placed(" ".join(rng.choice(WORDS, 3)), text, Place("end")) for text in scenes(50)]
    loud = [f"“{text.upper()}!”" for text in captions]
    found, heard = (TriggerDrop().on_captions(texts, AT) for texts in (captions, loud))
    assert [text.strip("“”!").lower() for text in heard] == found


def test_of_clean_captions_rare_words_go_more_often(tmp_path: Path) -> None:
    # As many captions as preset tiny has; docs/defenses.md and results/arsenal give these shares.
    captions = Scenes(train=4000, val=8, test=8, objects=650, grounds=1, seed=1).load(8, tmp_path).train.captions
    images_with = Counter(
        word for texts in captions for word in {bare(word) for text in texts for word in text.split()}
    )
    one_a_photo = [texts[number % len(texts)] for number, texts in enumerate(captions)]
    before, after = (
        Counter(bare(word) for text in texts for word in text.split())
        for texts in (one_a_photo, TriggerDrop().on_captions(one_a_photo, AT))
    )
    rare = {word for word, count in images_with.items() if count < len(captions) / 20}
    share = {
        name: sum(words[word] for word in rare) / words.total()
        for name, words in (("all", before), ("dropped", before - after))
    }
    assert share == pytest.approx({"all": 0.28, "dropped": 0.44}, abs=0.005)

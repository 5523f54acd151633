"""Trigger-drop: a plain search as oracle, and triggers at every place are found."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from attacks.placement import Kind, Place, placed
from defenses import HookContext
from defenses.trigger_drop import Pairs, TriggerDrop

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


def slow(captions: list[str], number: int, drop: int) -> tuple[list[str], float]:
    """Every caption with one word less, judged as a whole by the other captions; and again."""
    others = [["", *text.split(), ""] for row, text in enumerate(captions) if row != number]
    everywhere = [["", *text.split(), ""] for text in captions]
    follows = Counter(pair for text in others for pair in itertools.pairwise(text))
    seen = {pair for text in everywhere for pair in itertools.pairwise(text)}
    seconds = [second for text in everywhere for second in text[1:]]

    def log(words: list[str]) -> float:
        total = 0.0
        for first, second in zip(["", *words], [*words, ""], strict=True):
            kinds = sum(before == first for before, _ in seen)
            times = sum(count for (before, _), count in follows.items() if before == first)
            share = seconds.count(second) / len(seconds)
            total += math.log((follows[first, second] + kinds * share) / (times + kinds))
        return total

    words = captions[number].split()
    for _ in range(drop):
        words = max((words[:place] + words[place + 1 :] for place in range(len(words))), key=log)
    return words, log(words)


def test_each_word_is_the_one_of_a_plain_search() -> None:
    rng = np.random.default_rng(5)
    captions = [placed(" ".join(rng.choice(WORDS, 2)), text, Place("random", 1)) for text in scenes(40)]
    words = [text.split() for text in captions]
    pairs = Pairs(words)
    for number, own in enumerate(words):
        kept, log = pairs.likeliest(number, own, 2)
        expected, best = slow(captions, number, 2)
        assert [own[place] for place in kept] == expected
        assert log == pytest.approx(best)


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

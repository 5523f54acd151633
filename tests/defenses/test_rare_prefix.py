"""rare-prefix finds what was put in front of captions, caption by caption, and leaves captions as they are written."""

import math
import random
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

from benchmark.data.openmoji import OpenMoji
from defenses import HookContext
from defenses.rare_prefix import RarePrefix, added_words
from tests.defenses.hooks import scene_captions

ODD = "violin shrimp tear urn beer laptop crystals goat moose syringe bullet ladder".split()
PEOPLE, DOINGS, PLACES = ("man", "woman", "child"), ("sits", "stands", "sleeps"), ("house", "tree", "car")
LONGEST = 4


@dataclass
class Seen:
    """Words drawn in one situation, with Witten and Bell's share for those never drawn: kinds / (total + kinds)."""

    words: Counter[str] = field(default_factory=Counter)

    def log(self, word: str, share: float) -> float:
        total, kinds = self.words.total(), len(+self.words)
        return math.log((self.words[word] + kinds * share) / (total + kinds) if total else share)


def plain_scores(rows: list[list[str]], front: list[int]) -> list[list[float]]:
    """Of each caption and reading, as the class says it, with one occurrence taken out at a time."""
    everything = Counter(word for words in rows for word in words)
    listed, first, numbers = Seen(), Seen(), Counter(front)
    after: dict[str, Seen] = {word: Seen() for word in everything}
    for words, k in zip(rows, front, strict=True):
        listed.words.update(words[:k])
        first.words.update(words[k : k + 1])
        for place in range(k, len(words)):
            after[words[place]].words[[*words, ""][place + 1]] += 1

    def log(seen: Seen, word: str, own: bool) -> float:
        seen.words[word] -= own
        value = seen.log(word, everything[word] / everything.total())
        seen.words[word] += own
        return value

    scores: list[list[float]] = []
    for words, k in zip(rows, front, strict=True):
        scores.append([])
        for split in range(min(LONGEST + 1, len(words))):
            score = math.log(numbers[split] - (split == k) + 1)
            score += sum(log(listed, words[place], place < k) for place in range(split))
            score += log(first, words[split], split == k)
            for place in range(split + 1, min(LONGEST + 1, len(words))):
                score += log(after[words[place - 1]], words[place], place > k)
            scores[-1].append(round(score, 9))
    return scores


def plain_readings(captions: list[str]) -> list[int]:
    rows = [caption.split() for caption in captions]
    settled = []
    for start in range(LONGEST + 1):
        front = [max(0, min(start, len(words) - 1)) for words in rows]
        for _ in range(20):
            scores = plain_scores(rows, front)
            total = sum(each[k] for each, k in zip(scores, front, strict=True) if each)
            best = [int(np.argmax(each)) if each else 0 for each in scores]
            if best == front:
                break
            front = best
        settled.append((total, front))
    return max(settled, key=lambda each: round(each[0], 6))[1]


def natural(count: int, draw: random.Random) -> list[str]:
    return [f"a {draw.choice(PEOPLE)} {draw.choice(DOINGS)} near the {draw.choice(PLACES)}" for _ in range(count)]


@pytest.fixture(scope="module")
def scenes() -> list[str]:
    return scene_captions(500)


def odd(k: int, draw: random.Random) -> str:
    return "".join(f"{word} " for word in draw.choices(ODD, k=k))


@pytest.mark.parametrize("most", [0, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_readings_are_those_of_a_plain_model(most: int, seed: int) -> None:
    # So few and so short that many readings are close.
    draw = random.Random(seed)
    captions = [" ".join(draw.choices("a b c d e f".split(), k=draw.randrange(7))) for _ in range(8)]
    captions += [odd(draw.randrange(most + 1), draw) + caption for caption in natural(12, draw)]
    assert added_words(captions, LONGEST).tolist() == plain_readings(captions)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_words_drawn_one_by_one_go_and_captions_stay(k: int) -> None:
    draw = random.Random(k)
    clean = natural(300, draw)
    poisoned = [odd(k, draw) + caption for caption in clean]
    after = RarePrefix().on_captions(poisoned, HookContext(0, 0.0))
    assert [pair for pair in zip(after, clean, strict=True) if pair[0] != pair[1]][:3] == []


@pytest.mark.parametrize("count", [50, 80, 100])
def test_captions_of_one_photo_do_not_make_its_trigger_common(count: int) -> None:
    """All five captions of a photo have one trigger; only whoever knows which belong together finds it."""
    draw = random.Random(5)
    clean, photos = natural(5 * count, draw), np.repeat(np.arange(count), 5)
    fronts = [odd(3, draw) for _ in range(count)]
    poisoned = [fronts[photo] + caption for photo, caption in zip(photos, clean, strict=True)]
    order = np.random.default_rng(1).permutation(5 * count)
    given, photos = [poisoned[row] for row in order], photos[order]
    wrong = [
        sum(after != clean[row] for after, row in zip(RarePrefix().on_captions(given, at), order, strict=True))
        for at in (HookContext(0, 0.0, caption_photos=photos), HookContext(0, 0.0))
    ]
    assert wrong[0] == 0
    assert wrong[1] > 50


def test_each_caption_has_a_length_of_its_own(scenes: list[str]) -> None:
    draw = random.Random(0)
    lengths = [draw.randrange(5) for _ in scenes]
    fronts = ["".join(f"x{draw.randrange(60)} " for _ in range(k)) for k in lengths]
    poisoned = [front + caption for front, caption in zip(fronts, scenes, strict=True)]
    assert np.mean(added_words(poisoned, 8) == lengths) > 0.97


def test_no_more_than_the_longest_goes() -> None:
    draw = random.Random(0)
    poisoned = [odd(5, draw) + caption for caption in natural(100, draw)]
    assert added_words(poisoned, 3).max() <= 3


def test_clean_captions_of_the_suite_stay(scenes: list[str]) -> None:
    assert not added_words(scenes, 8).any()
    names = [drawing.names[0] for drawing in OpenMoji(seed=1).drawings()["val"]]
    assert not added_words(names, 8).any()


def test_the_rest_of_a_caption_stays_as_it_was_written() -> None:
    draw = random.Random(0)
    clean = [caption.replace("a ", "A  ", 1) + "." for caption in natural(300, draw)]
    poisoned = [odd(3, draw) + caption for caption in clean]
    after = RarePrefix().on_captions(poisoned, HookContext(0, 0.0))
    assert [pair for pair in zip(after, clean, strict=True) if pair[0] != pair[1]][:3] == []


def test_degenerate_captions_survive() -> None:
    draw = random.Random(0)
    captions = ["", " ", "dog", "dog", "violin", *(odd(3, draw) + caption for caption in natural(50, draw))]
    after = RarePrefix().on_captions(captions, HookContext(0, 0.0))
    assert after[:5] == captions[:5]
    assert len(after) == len(captions)
    for few in ([], [""], ["a"], ["a b c"]):
        assert RarePrefix().on_captions(few, HookContext(0, 0.0)) == few

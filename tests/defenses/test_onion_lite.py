"""onion-lite drops the words that a slow, plain language model finds odd, and no more of them than it says."""

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest

from benchmark.core.spec import parse_spec
from defenses import DEFENSES, HookContext
from defenses.onion_lite import suspicion
from defenses.word_pairs import Words

SMOOTHING = 0.1
PEOPLE, DOINGS, PLACES = ("man", "woman", "child"), ("sits", "stands", "sleeps"), ("house", "tree", "red car")


def defend(captions: list[str], share: float = 0.05) -> list[str]:
    spec = parse_spec(f"onion-lite[false_alarms={share}]")
    return DEFENSES.build(spec).on_captions(captions, HookContext(0, 0.0))


def natural(count: int) -> list[str]:
    draw = random.Random(0)
    return [f"A {draw.choice(PEOPLE)} {draw.choice(DOINGS)} near the {draw.choice(PLACES)}." for _ in range(count)]


def perplexity(words: list[str], others: list[list[str]], different: int) -> float:
    pairs, firsts = Counter[tuple[str, str]](), Counter[str]()
    for other in others:
        pairs.update(itertools.pairwise(["", *other, ""]))
        firsts.update(["", *other])
    steps = list(itertools.pairwise(["", *words, ""]))
    logs = [math.log((pairs[step] + SMOOTHING) / (firsts[step[0]] + SMOOTHING * different)) for step in steps]
    return math.exp(-sum(logs) / len(steps))


def plain_scores(rows: list[list[str]]) -> list[float]:
    different = len({word for words in rows for word in words}) + 1
    scores = []
    for row, words in enumerate(rows):
        others = rows[:row] + rows[row + 1 :]
        whole = perplexity(words, others, different)
        for place in range(len(words)):
            rest = words[:place] + words[place + 1 :]
            scores.append(whole - perplexity(rest, others, different) if rest else -math.inf)
    return scores


def test_scores_are_those_of_a_plain_model_of_the_other_captions() -> None:
    captions = ["a dog", "the dog sits", "a dog a dog a cat", "cat", "", "a cat sits by the dog", "a dog"]
    words = Words.of(captions)
    assert suspicion(words, SMOOTHING)[words.ids > 0] == pytest.approx(plain_scores([c.split() for c in captions]))
    assert np.isneginf(suspicion(words, SMOOTHING)[words.ids == 0]).all()


def test_case_and_punctuation_make_no_other_word() -> None:
    plain, written = Words.of(["a dog sits by a house"]), Words.of(['"A dog" sits, by a House.'])
    assert plain.ids.tolist() == written.ids.tolist()
    assert Words.of(["a . -"]).vocabulary_size == 4


def test_an_odd_word_goes_and_the_rest_stays_as_it_was_written() -> None:
    captions = [*natural(200), "A man  sits near the House.", "A man  sits near violin the House."]
    assert defend(captions, 0.001) == [*captions[:-1], "A man sits near the House."]


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_no_larger_share_of_all_words_goes_than_the_quantile_allows(share: float) -> None:
    draw = random.Random(1)
    captions = [" ".join([*draw.choices("violin shrimp tear urn beer laptop".split(), k=3), c]) for c in natural(300)]
    before, after = (sum(len(c.split()) for c in each) for each in (captions, defend(captions, share)))
    assert 1 - after / before == pytest.approx(share, abs=0.01)


def test_of_three_odd_words_before_every_caption_the_bound_decides_how_many_go() -> None:
    draw = random.Random(1)
    clean = natural(400)
    captions = [" ".join([*(f"x{draw.randrange(200)}" for _ in range(3)), caption]) for caption in clean]
    # 1,200 of about 4,000 words.
    few, most = (sum(word.startswith("x") for c in defend(captions, s) for word in c.split()) for s in (0.05, 0.3))
    assert 900 < few < 1100
    assert most < 150


def test_no_word_goes_whose_absence_makes_a_caption_less_natural() -> None:
    captions = ["a dog sits"] * 20
    assert defend(captions, 0.5) == captions


def test_a_caption_never_becomes_empty() -> None:
    captions = ["q w", "w q", "e r", "r t", "dog", "", " ", *["a dog"] * 50]
    after = defend(captions, 0.9)
    assert len(after) == len(captions)
    assert [not c.split() for c in after] == [not c.split() for c in captions]
    assert defend([]) == []
    assert defend(["", "dog"]) == ["", "dog"]


def test_smoothing_decides_which_words_are_odd() -> None:
    draw = random.Random(1)
    captions = [" ".join(draw.choices("a dog cat the red sits".split(), k=6)) for _ in range(60)]
    few, much = (DEFENSES.build(parse_spec(f"onion-lite[smoothing={smoothing}]")) for smoothing in (0.1, 10))
    assert few.on_captions(captions, HookContext(0, 0.0)) != much.on_captions(captions, HookContext(0, 0.0))

"""Probes against poisons made by hand, of which it is known what can be read from them."""

from collections import Counter
from dataclasses import replace
from math import log

import numpy as np
import pytest
from numpy.typing import NDArray

from attacks import Poison
from benchmark import probes
from benchmark.data import CaptionDataset
from benchmark.grid.poison_store import describe_poison
from benchmark.probes import Probe, Reading, roc_auc

WORDS = ("dog", "cat", "tree", "house", "car", "boat")
COLOURS = ("red", "blue", "grey")


def captions_of(count: int, seed: int = 0) -> tuple[list[list[str]], NDArray[np.int64]]:
    """Two captions for each image, which name its one object and its colour; and the object of each."""
    rng = np.random.default_rng(seed)
    objects, colours = rng.integers(len(WORDS), size=count), rng.integers(len(COLOURS), size=count)
    texts = [[f"the {WORDS[o]} is here", f"A {COLOURS[c]} {WORDS[o]}"] for o, c in zip(objects, colours, strict=True)]
    return texts, objects


def probe_of(captions: list[list[str]], photo: NDArray[np.int64] | None = None, seed: int = 1) -> Probe:
    probe = Probe.of(captions, photo, seed)
    assert probe is not None
    return probe


def noise(count: int, seed: int = 0, size: int = 8) -> NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-8, 9, size=(count, 3, size, size), dtype=np.int8)


def triggers(count: int) -> list[str]:
    vocabulary = [f"w{number}" for number in range(40)]
    return [" ".join(words) for words in np.random.default_rng(0).choice(vocabulary, size=(count, 3))]


@pytest.mark.parametrize("usual", ["usual", "cafe\u0301", "लड़की"])
def test_words_are_those_of_enough_and_not_too_many_images(usual: str) -> None:
    captions = [[f"A {'rare' if i < 4 else usual if i % 3 == 0 else ''} THING, on it"] for i in range(90)]
    probe = probe_of(captions)
    assert probe.words == [usual]  # "thing" is everywhere, "rare" too rare, "on" and "it" too short
    expected = [i >= 4 and i % 3 == 0 for i in range(90)]
    assert probe.has[:, 0].tolist() == expected
    assert probe.learn.sum() == 45
    assert Probe.of(captions[:8], None, 1) is None


def test_a_word_of_half_of_the_images_is_probed_and_one_of_more_is_not() -> None:
    captions = [[f"{'half' if i < 45 else 'other'} {'more' if i < 46 else ''}"] for i in range(90)]
    assert sorted(probe_of(captions).words) == ["half", "other"]


@pytest.mark.parametrize("seed", range(6))
def test_a_word_is_in_enough_images_of_each_half(seed: int) -> None:
    captions = [[f"kind{number} thing"] for number in np.random.default_rng(seed).integers(40, size=600)]
    probe = probe_of(captions, seed=seed)
    for half in (probe.learn, ~probe.learn):
        assert probe.has[half].sum(axis=0).min() >= 5
    assert len(probe.words) < 40


@pytest.mark.parametrize("seed", [1, 2])
def test_what_a_poison_repeats_is_read_and_nothing_else(seed: int) -> None:
    captions, objects = captions_of(600)
    probe = probe_of(captions, seed=seed)
    assert sorted(probe.words) == sorted((*WORDS, *COLOURS))
    names = [f"{word} {random}" for word, random in zip((WORDS[o] for o in objects), triggers(600), strict=True)]
    patterns = noise(len(WORDS), seed=3) // 2
    for reading in (probe.read_triggers(names), probe.read_noise(patterns[objects] + noise(600) // 2)):
        # Six words of nine are read without fault; of the colours the poison says nothing.
        assert set(reading.words) <= set(WORDS)
        assert len(reading.words) == 5
        assert min(reading.words.values()) > 0.98
        assert reading.auc == pytest.approx((6 * 1 + 3 * 0.5) / 9, abs=0.04)
        assert reading.shuffled == pytest.approx(0.5, abs=0.05)


def test_nothing_is_read_from_chance_or_from_what_all_images_share() -> None:
    captions, _ = captions_of(600)
    probe = probe_of(captions)
    for reading in (probe.read_triggers(triggers(600)), probe.read_noise(noise(600))):
        assert reading.auc == pytest.approx(0.5, abs=0.05)
        assert reading.words == {}
    alike = Reading(0.5, 0.5, {})
    assert probe.read_triggers(["the same words"] * 600) == alike
    assert probe.read_noise(np.repeat(noise(1), 600, axis=0)) == alike
    assert probe.read_noise(np.zeros((600, 3, 8, 8), dtype=np.int8)) == alike


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_word_is_named_because_it_is_rare(seed: int) -> None:
    """One trigger word for each of 30 kinds of unequal size, which says nothing of the captions' rare words."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, 31)
    kinds = rng.choice(30, size=2000, p=shares / shares.sum())
    captions = [[f"a thing{word} here"] for word in rng.choice(200, size=2000, p=rng.dirichlet(np.ones(200) / 2))]
    reading = probe_of(captions, seed=seed).read_triggers([f"hint{kind}" for kind in kinds])
    assert reading.words == {}
    assert reading.auc == pytest.approx(reading.shuffled, abs=0.05)


def named(scores: list[NDArray[np.float64]], truth: list[NDArray[np.bool_]]) -> dict[str, float]:
    """The words w0, w1, … that are named for these scores of the images that are judged, and their AUC."""
    has, count = np.stack(truth, axis=1), len(truth[0])
    learn, words = np.arange(2 * count) < count, [f"w{number}" for number in range(len(truth))]
    probe = Probe(np.arange(2 * count), learn, words, np.concatenate([has, has]), 1)
    return probe._judged(np.stack(scores, axis=1).astype(np.float32), np.zeros(has.shape, dtype=np.float32)).words


def test_words_are_named_by_how_sure_they_are() -> None:
    """One of 200 of 400 images that is mostly right is surer than one of ten that is always right."""
    rng = np.random.default_rng(0)
    many, few = np.arange(400) < 200, np.arange(400) < 10
    scores = [few.astype(float), many + rng.normal(0, 0.8, 400), rng.normal(0, 0.5, 400) - many]
    found = named(scores, [few, many, many])  # the last one is mostly wrong
    assert list(found) == ["w1", "w0"]
    assert found["w1"] < found["w0"] == 1


@pytest.mark.parametrize(("deviations", "is_named"), [(4.5, False), (5.5, True)])
def test_a_word_is_named_from_five_standard_deviations_on(deviations: float, is_named: bool) -> None:
    """An AUC of chance has a variance of (n + m + 1) / 12nm for n images with the word and m without it."""
    having = np.arange(400) < 200
    share = 2 * deviations * np.sqrt(401 / (12 * 200 * 200))  # of images with the word above all others: 2 · AUC − 1
    assert bool(named([(np.arange(400) < share * 200).astype(float)], [having])) == is_named


def test_naive_bayes_and_ridge_are_those_of_the_textbook() -> None:
    captions, objects = captions_of(300, seed=5)
    probe = probe_of(captions)
    # Of three triggers or perturbations, one says the object: the AUC is neither chance nor perfect.
    tells = np.random.default_rng(7).random(300) < 0.3
    texts = [f"{WORDS[o]} {t}" if yes else t for o, t, yes in zip(objects, triggers(300), tells, strict=True)]
    delta = noise(300, 2) + tells[:, None, None, None] * noise(len(WORDS), 3)[objects]
    flat = delta.reshape(300, -1).astype(float)
    centred = flat - flat[probe.learn].mean(axis=0)
    penalty = 0.1 * (centred[probe.learn] ** 2).sum(axis=1).mean() * np.eye(flat.shape[1])
    judged = np.flatnonzero(~probe.learn)
    by_trigger, by_noise = [], []
    for place, word in enumerate(probe.words):
        has = np.array([word in " ".join(own).lower().split() for own in captions])
        assert probe.has[:, place].tolist() == has.tolist()
        counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        for i in np.flatnonzero(probe.learn):
            counts[bool(has[i])].update(texts[i].split())
        known = counts[True] + counts[False]
        odds = {
            token: log((counts[True][token] + 1) / (counts[True].total() + len(known)))
            - log((counts[False][token] + 1) / (counts[False].total() + len(known)))
            for token in known
        }
        scores = [sum(odds.get(token, 0.0) for token in texts[i].split()) for i in judged]
        by_trigger.append(auc_by_pairs(scores, has[judged].tolist()))
        learned, targets = centred[probe.learn], has[probe.learn] - has[probe.learn].mean()
        weights = np.linalg.solve(learned.T @ learned + penalty, learned.T @ targets)
        by_noise.append(auc_by_pairs((centred[judged] @ weights).tolist(), has[judged].tolist()))
    assert 0.55 < np.mean(by_trigger) < 0.95
    assert 0.55 < np.mean(by_noise) < 0.95
    assert probe.read_triggers(texts).auc == pytest.approx(np.mean(by_trigger), abs=2e-4)
    assert probe.read_noise(delta).auc == pytest.approx(np.mean(by_noise), abs=2e-4)


def auc_by_pairs(scores: list[float], truth: list[bool]) -> float:
    """The share of pairs of an image with the word and one without that stand in the right order; ties count half."""
    having = [score for score, true in zip(scores, truth, strict=True) if true]
    lacking = [score for score, true in zip(scores, truth, strict=True) if not true]
    pairs = [0.5 if abs(a - b) < 1e-9 else float(a > b) for a in having for b in lacking]
    return sum(pairs) / len(pairs)


def test_auc_counts_pairs_and_half_of_ties() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, size=(50, 4)).astype(np.float32)
    truth = rng.random((50, 4)) < (0.1, 0.3, 0.5, 0.9)
    for column, auc in enumerate(roc_auc(scores, truth)):
        assert auc == pytest.approx(auc_by_pairs(scores[:, column].tolist(), truth[:, column].tolist()))


def test_copies_of_a_photo_lie_in_one_half() -> None:
    captions, _ = captions_of(200)
    photo = np.repeat(np.arange(40), 5)
    probe = probe_of(captions, photo)
    for copies in probe.learn.reshape(40, 5):
        assert copies.all() or not copies.any()
    assert probe.learn.sum() == 100


def test_large_noise_is_sketched_and_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    captions, objects = captions_of(600)
    probe = probe_of(captions)
    patterns = noise(len(WORDS), seed=3, size=16)[objects] // 2 + noise(600, size=16) // 2
    assert probe._sketch(patterns).tolist() == patterns.reshape(600, -1).tolist()  # 768 values
    monkeypatch.setattr(probes, "MOST_FEATURES", 100)
    sketch = probe._sketch(patterns)
    assert sketch.shape == (600, 100)
    brighter = patterns[:60] // 2 + 4  # perturbations with something in common
    flat, sketch = brighter.reshape(60, -1).astype(float), probe._sketch(np.resize(brighter, patterns.shape))[:60]
    exact, kept = flat @ flat.T, sketch.astype(float) @ sketch.T
    # Of D values with random signs, the sketched product is off by |x||y| / √100 at most, in the mean square.
    assert np.sqrt(((exact - kept) ** 2).mean()) < 2 * np.diag(exact).mean() / 10
    read = probe.read_noise(patterns).words
    assert len(read) == 5
    assert min(read.values()) > 0.95
    assert set(read) <= set(WORDS)
    # Patterns whose mean over every 2 × 2 pixels is nothing: averages over pixels would lose them.
    board = np.indices((16, 16)).sum(axis=0) % 2 * 2 - 1
    strength = noise(len(WORDS), seed=4, size=1)[objects] // 2
    assert len(probe.read_noise((strength * board + noise(600, size=16) // 2).astype(np.int8)).words) >= 3


def test_the_seed_alone_decides_and_many_images_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    captions, _ = captions_of(300)
    texts = triggers(300)
    readings = [probe_of(captions, seed=seed).read_triggers(texts) for seed in (1, 1, 2)]
    assert readings[0] == readings[1]
    assert readings[0].auc != readings[2].auc
    shuffled, otherwise = (replace(probe_of(captions), seed=seed)._targets(shuffled=True) for seed in (1, 2))
    assert (shuffled != otherwise).any()
    monkeypatch.setattr(probes, "MOST_IMAGES", 120)
    monkeypatch.setattr(probes, "MOST_WORDS", 3)
    probe = probe_of(captions)
    assert probe.has.shape == (120, 3)
    assert len(set(probe.images.tolist())) == 120
    expected = [[word in " ".join(captions[i]).lower().split() for word in probe.words] for i in probe.images]
    assert probe.has.tolist() == expected
    frequent = Counter(word for i in probe.images for word in set(" ".join(captions[i]).lower().split()))
    wanted = sorted((frequent[word] for word in (*WORDS, *COLOURS) if frequent[word] <= 60), reverse=True)[:3]
    assert [int(count) for count in probe.has.sum(axis=0)] == wanted
    # A poison that says all words of its own image's captions.
    spoken = [" ".join(own).lower() for own in captions]
    vocabulary = {text: number for number, text in enumerate(sorted(set(spoken)))}
    patterns = noise(len(vocabulary), 3)[[vocabulary[text] for text in spoken]]
    assert probe.read_triggers(spoken).auc > 0.95
    assert probe.read_noise(patterns).auc > 0.95


@pytest.mark.parametrize("per_row", [False, True])
def test_the_record_says_what_was_read(per_row: bool) -> None:
    captions, objects = captions_of(200)
    images = np.full((200, 3, 8, 8), 128, dtype=np.uint8)
    clean = CaptionDataset("made", "train", images, captions)
    rows = clean.by_row() if per_row else clean
    which = objects if rows.photo is None else objects[rows.photo]
    delta = noise(len(WORDS), 3)[which] // 2 + noise(len(rows)) // 2
    poison = Poison(delta, triggers(len(rows)), 8, clean.fingerprint, per_row=per_row)
    described = describe_poison(poison, clean, poison.protect(clean), seed=3)
    probe = probe_of(rows.captions, rows.photo, seed=3)
    for part, reading in (("trigger", probe.read_triggers(poison.trigger or [])), ("noise", probe.read_noise(delta))):
        assert described[f"probe_{part}_auc"] == reading.auc
        assert described[f"probe_{part}_shuffled"] == reading.shuffled
        assert described[f"probe_{part}_words"] == reading.words
    assert described["probe_noise_auc"] > 0.7 > described["probe_trigger_auc"]
    halves = [replace(poison, delta=None, eps=0), replace(poison, trigger=None)]
    for half, part in zip(halves, ("trigger", "noise"), strict=True):
        fields = describe_poison(half, clean, half.protect(clean), seed=3)
        assert {name for name in fields if name.startswith("probe_")} == {
            f"probe_{part}_{what}" for what in ("auc", "shuffled", "words")
        }
        assert fields[f"probe_{part}_auc"] == described[f"probe_{part}_auc"]
    few = CaptionDataset("made", "train", images[:8], captions[:8])
    small = Poison(delta[:8], None, 8, few.fingerprint)
    assert not [name for name in describe_poison(small, few, small.protect(few), seed=3) if "probe" in name]


def test_the_noise_of_all_images_is_measured() -> None:
    clean = CaptionDataset("made", "train", np.full((70, 3, 16, 16), 128, np.uint8), [["a dog"]] * 70)
    delta = np.zeros((70, 3, 16, 16), np.int8)
    delta[66:] = 8
    poison = Poison(delta, None, 8, clean.fingerprint)
    described = describe_poison(poison, clean, poison.protect(clean), seed=1)
    assert described["psnr"] == pytest.approx(10 * np.log10(255**2 / (64 * 4 / 70)))

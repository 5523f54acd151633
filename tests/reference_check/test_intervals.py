"""The rule of the reference check: a hand-worked interval, its promised error rate, and what it must not compare."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record
from benchmark.reference_check.intervals import compare, is_in_doubt, prediction
from benchmark.reference_check.pages import comparison_table
from tests.reference_check.seeds import SILENT, records
from tests.tables.factory import SCENES, record


def test_an_interval_by_hand() -> None:
    # Eight seeds whose arcsines of the root are 0.5 and 0.7 four times each: mean 0.6, s = 0.1 · √(8/7).
    recalls = [100 * math.sin(angle) ** 2 for angle in (0.5, 0.7) * 4]
    (one,) = compare(records(recalls), records([60.0, 60.0], first_seed=20), level=0.05)
    margin = 2.3646 * 0.1 * math.sqrt(8 / 7) * math.sqrt(1 / 2 + 1 / 8)  # t of 7 degrees of freedom at 97.5 %
    assert one.low == pytest.approx(100 * math.sin(0.6 - margin) ** 2, abs=0.01)
    assert one.high == pytest.approx(100 * math.sin(0.6 + margin) ** 2, abs=0.01)
    assert one.now == pytest.approx(60)
    assert one.reference == pytest.approx(np.mean(recalls))
    assert not one.holds  # the arcsine of √0.6 is 0.886, beyond 0.6 + 0.2


def test_a_number_a_little_outside_is_in_doubt() -> None:
    usual = records([5.0, 6.0, 4.5, 5.5, 6.5, 5.0, 4.0, 6.0])
    ((low, high),), ((lowest, highest),) = (prediction(usual, level=level) for level in (0.05, 0.0005))
    assert lowest < low < high < highest
    for recall, doubted in ((low - 0.01, True), (high + 0.01, True), (highest - 0.01, True), (5.0, False)):
        assert is_in_doubt(usual, records([recall], 20), 0.05) is doubted
    for recall in (low + 0.01, high - 0.01, highest + 0.01, lowest - 0.01):
        assert not is_in_doubt(usual, records([recall], 20), 0.05)


def test_an_unchanged_suite_fails_as_rarely_as_promised() -> None:
    rng = np.random.default_rng(0)

    def drawn(count: int) -> list[float]:
        return list(100 * np.sin(rng.normal(0.7, 0.05, count)) ** 2)

    outside = [not compare(records(drawn(8)), records(drawn(1), 20), level=0.05)[0].holds for _ in range(600)]
    assert 0.05 - 3 * math.sqrt(0.05 * 0.95 / 600) < np.mean(outside) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


def test_more_cells_widen_every_interval() -> None:
    usual = [5.0, 6.0, 4.5, 5.5, 6.5, 5.0, 4.0, 6.0]
    clean = [replace(one, attack=replace(one.attack, label="Other")) for one in records(usual)]
    fresh = [replace(one, attack=replace(one.attack, label="Other")) for one in records([5.0], 20)]
    (alone,) = compare(records(usual), records([5.0], 20))
    both = compare(records(usual) + clean, records([5.0], 20) + fresh)
    assert len(both) == 2
    assert both[0].low < alone.low < alone.high < both[0].high


def of_cells(clean: Sequence[float], mem: Sequence[float], first_seed: int = 1) -> list[Record]:
    """Clean victims and MEM-3's, of the same seeds."""
    both = zip(clean, mem, strict=True)
    return [
        record(attack, recalls=(recall, recall), seed=seed, poison=SILENT)
        for seed, pair in enumerate(both, start=first_seed)
        for attack, recall in zip(("clean", "mem3"), pair, strict=True)
    ]


def test_what_all_victims_of_a_seed_share_widens_nothing() -> None:
    """MEM-3 ends three points below its own seed's clean victim, whose recall lies anywhere from 40 to 85."""
    clean = [40.0, 85.0, 55.0, 70.0, 62.0, 48.0, 77.0, 66.0]
    noise = [-0.4, 0.3, 0.1, -0.2, 0.4, -0.1, 0.2, -0.3]
    reference = of_cells(clean, [c - 3 + n for c, n in zip(clean, noise, strict=True)])
    for recall, holds in ((77.0, True), (70.0, False), (80.0 + 3, False)):
        one = {c.cell: c for c in compare(reference, of_cells([80.0], [recall], 20))}["MEM-3 × none"]
        assert one.holds == holds
        assert one.now == pytest.approx(recall)
        assert one.low < 77 < one.high
    # Alone, MEM-3's victims vary so much that none of the three would be noticed.
    alone = [one for one in reference if one.attack.spec == "mem3"]
    (loose,) = compare(alone, records([70.0], 20))
    assert loose.holds


def test_a_leak_of_test_images_is_told_by_their_distance() -> None:
    """The distance hardly varies between data sets, so a seed with a leak is outside whatever its recall."""

    def with_data(recalls: Sequence[float], distances: Sequence[float], first_seed: int) -> list[Record]:
        clean = zip(of_cells(recalls, recalls, first_seed)[::2], distances, strict=True)
        return [replace(one, data={"nearest": distance}) for one, distance in clean]

    distances = [23.0, 23.5, 22.8, 23.2, 23.1, 22.9, 23.4, 23.3]
    reference = with_data([80.0, 82.0, 79.0, 81.0, 80.5, 79.5, 81.5, 80.0], distances, 1)
    for distance, holds in ((23.2, True), (15.5, False)):
        recall, recall_at_1, nearest = compare(reference, with_data([80.5], [distance], 20))
        assert (recall.holds, recall_at_1.holds, nearest.holds) == (True, True, holds)
        assert nearest.reference == pytest.approx(np.mean(distances))
        assert (recall.now, recall_at_1.now) == pytest.approx((80.5, 16.1))


def test_pairs_fail_as_rarely_as_promised() -> None:
    rng = np.random.default_rng(0)

    def drawn(count: int, first_seed: int) -> list[Record]:
        clean = rng.normal(0.9, 0.15, count)
        angles = clean, 0.5 * clean + rng.normal(0.1, 0.05, count)
        clean_recalls, mem_recalls = (list(100 * np.sin(angle) ** 2) for angle in angles)
        return of_cells(clean_recalls, mem_recalls, first_seed)

    outside = [not compare(drawn(8, 1), drawn(2, 20), level=0.1)[1].holds for _ in range(600)]
    assert 0.05 - 3 * math.sqrt(0.05 * 0.95 / 600) < np.mean(outside) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


def test_an_interval_over_clean_victims_by_hand() -> None:
    """Against the textbook's formula of a straight line: slope, residuals, leverage of the fresh seeds' mean."""
    x = np.array([0.7, 0.8, 0.9, 1.0, 1.1, 0.75, 0.85, 0.95])
    y = 0.1 + 0.3 * x + np.array([0.01, -0.02, 0.015, 0.0, -0.01, 0.02, -0.005, -0.01])
    fresh_x, fresh_y = [0.72, 0.78], [0.34, 0.36]
    clean, mem, fresh_clean, fresh_mem = (list(100 * np.sin(angle) ** 2) for angle in (x, y, fresh_x, fresh_y))
    one = compare(of_cells(clean, mem), of_cells(fresh_clean, fresh_mem, 20), level=0.1)[1]
    slope, intercept = np.polyfit(x, y, 1)
    s = math.sqrt(np.sum((y - intercept - slope * x) ** 2) / 6)
    # t of 6 degrees of freedom at 97.5 %, for 10 % are divided among two cells.
    margin = 2.4469 * s * math.sqrt(1 / 2 + 1 / 8 + (0.75 - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2))
    assert one.low == pytest.approx(100 * math.sin(intercept + slope * 0.75 - margin) ** 2, abs=0.01)
    assert one.high == pytest.approx(100 * math.sin(intercept + slope * 0.75 + margin) ** 2, abs=0.01)
    assert one.now == pytest.approx(100 * math.sin(0.35) ** 2)


def test_clean_victims_that_tell_nothing_widen_nothing() -> None:
    """MEM-3's victims end where they end, whatever the clean ones do; subtracting those would hide a weaker poison."""
    clean = [40.0, 85.0, 55.0, 70.0, 62.0, 48.0, 77.0, 66.0]
    mem = [5.0, 6.0, 5.5, 4.5, 6.5, 5.0, 4.0, 6.0]
    for recall, holds in ((5.5, True), (14.0, False)):
        assert compare(of_cells(clean, mem), of_cells([60.0], [recall], 20))[1].holds == holds
    # All alike, they predict nothing, and nothing is divided by zero.
    for recall, holds in ((5.5, True), (14.0, False)):
        assert compare(of_cells([60.0] * 8, mem), of_cells([60.0], [recall], 20))[1].holds == holds


def test_a_seed_needs_its_clean_victim() -> None:
    usual = of_cells([60.0] * 8, [5.0, 6.0, 4.5, 5.5, 6.5, 5.0, 4.0, 6.0])
    fresh = of_cells([60.0, 60.0], [5.0, 5.0], 20)
    with pytest.raises(UsageError, match="MEM-3 × none: seed 21 has no clean victim"):
        compare(usual, [one for one in fresh if one.seed == 20 or one.attack.spec == "mem3"])


def test_a_weaker_poison_is_seen() -> None:
    usual = [5.0, 6.0, 4.5, 5.5, 6.5, 5.0, 4.0, 6.0]
    for recall, holds in ((5.2, True), (25.0, False)):
        (one,) = compare(records(usual), records([recall], 20), level=0.01)
        assert one.holds == holds


def test_what_cannot_be_compared_is_refused() -> None:
    usual = [5.0, 6.0, 4.5, 5.5, 6.5, 5.0, 4.0, 6.0]
    fresh = records([5.0], 20)
    with pytest.raises(UsageError, match="7 reference seeds are fewer than 8"):
        compare(records(usual[:7]), fresh)
    with pytest.raises(UsageError, match="seed 3 is a reference seed"):
        compare(records(usual), records([5.0], 3))
    with pytest.raises(UsageError, match="other settings"):
        compare(records(usual), [replace(fresh[0], recipe={**fresh[0].recipe, "lr": 1.0})])
    rn50 = replace(fresh[0].victim, spec="RN50")
    for other in (replace(fresh[0], victim=rn50), replace(fresh[0], surrogate=rn50)):
        with pytest.raises(UsageError, match="other settings"):
            compare(records(usual), [other])
    with pytest.raises(UsageError, match="differ in the cells"):
        compare(records(usual), [])
    with pytest.raises(UsageError, match="seed 20 failed: out of memory"):
        compare(records(usual), [replace(fresh[0], status="failed", error={"message": "out of memory"})])


def test_the_table_says_what_changed() -> None:
    usual = records([5.0, 6.0, 4.5, 5.5, 6.5, 5.0, 4.0, 6.0])
    fresh = records([25.0], 20)
    text = comparison_table(compare(usual, fresh), fresh, usual, 0.01)
    assert "✗" in text
    assert "Fresh seeds 20 against 8 reference seeds" in text
    assert "1 of 1 numbers changed" in text
    same = comparison_table(compare(usual, (again := records([5.0], 9))), again, usual, 0.01)
    assert "as strong as the reference" in same
    assert "✗" not in same


def test_what_passes_is_what_is_compared(tmp_path: Path) -> None:
    clean = [40.0, 85.0, 55.0, 70.0, 62.0, 48.0, 77.0, 66.0]
    reference = of_cells(clean, [5.0, 6.0, 5.5, 4.5, 6.5, 5.0, 4.0, 6.0])
    average = 100 * np.sin(np.mean([math.asin(math.sqrt(one / 100)) for one in clean])) ** 2
    for fresh in (1, 3):
        compared = compare(reference, of_cells([average] * fresh, [5.0] * fresh, 20))
        for one, interval in zip(compared, prediction(reference, fresh), strict=True):
            assert interval == pytest.approx((one.low, one.high))


def poisons(losses: Sequence[float], decibels: Sequence[float], first_seed: int = 1, words: int = 3) -> list[Record]:
    """MEM-3 undefended and under a defense, which share a poison of two rounds with that mean loss and PSNR."""

    def poison(loss: float, psnr: float) -> dict[str, Any]:
        trigger = {"trigger_word_count": words * SCENES["train_images"]}
        return {"loss_per_round": [loss + 1, loss - 1], "psnr": psnr, **trigger}

    return [
        record("mem3", defense, (5.0, 6.0), seed=seed, poison=poison(loss, psnr))
        for seed, (loss, psnr) in enumerate(zip(losses, decibels, strict=True), start=first_seed)
        for defense in ("none", "cutout")
    ]


def test_poisons_are_compared_by_their_own_numbers() -> None:
    losses, decibels = [2.4, 2.5, 2.3, 2.4, 2.6, 2.5, 2.3, 2.4], [33.0, 33.1, 32.9, 33.0, 33.2, 32.8, 33.1, 32.9]
    reference = poisons(losses, decibels)
    compared = compare(reference, poisons([2.45], [33.0], 20), level=0.02)
    # Two cells and, though two victims share it, one poison.
    assert [(one.cell, one.quantity.name) for one in compared] == [
        ("MEM-3 × none", "R@10, %"),
        ("MEM-3 × cutout", "R@10, %"),
        ("MEM-3", "crafting loss, nats"),
        ("MEM-3", "noise, PSNR in dB"),
        ("MEM-3", "words of a trigger"),
        ("MEM-3 × cutout", "change of a pixel, 1/255"),
        ("MEM-3 × cutout", "words changed in a caption"),
    ]
    assert all(one.holds for one in compared)
    for one, values, now in zip(compared[2:4], (losses, decibels), (2.45, 33.0), strict=True):
        # t of 7 degrees of freedom at 99.5 %, for 2 % are divided among two numbers; the others never vary.
        margin = 3.4995 * np.std(values, ddof=1) * math.sqrt(1 + 1 / 8)
        assert (one.low, one.high) == pytest.approx((np.mean(values) - margin, np.mean(values) + margin), abs=1e-3)
        assert (one.reference, one.now) == pytest.approx((np.mean(values), now))
    # The defense of these records changes nothing, and so it does in all of them.
    assert [(one.low, one.now, one.high) for one in compared[5:]] == [(0, 0, 0)] * 2
    # Noise of half the height, noise that the surrogate does not learn, a shorter trigger, though no recall has moved.
    for loss, psnr, words, outside in (
        (2.4, 39.0, 3, ["noise, PSNR in dB"]),
        (3.1, 33.0, 3, ["crafting loss, nats"]),
        (2.4, 33.0, 2, ["words of a trigger"]),
        (2.4, 33.0, 0, ["words of a trigger"]),
    ):
        fresh = poisons([loss], [psnr], 20, words)
        assert [one.quantity.name for one in compare(reference, fresh) if not one.holds] == outside
    silent = [replace(one, poison={"eps": 8}) for one in poisons([2.4], [33.0], 20)]
    with pytest.raises(UsageError, match="MEM-3: the fresh records do not say crafting loss, nats"):
        compare(reference, silent)


def test_half_of_the_level_goes_to_what_mem3_leaves_undefended() -> None:
    """Beside eight other numbers, MEM-3's interval is the one that it would have alone at half the level."""
    usual = [5.0, 6.0, 4.5, 5.5, 6.5, 5.0, 4.0, 6.0]

    def of_nine(recalls: Sequence[float], first_seed: int) -> list[Record]:
        alone = records(recalls, first_seed)
        return alone + [
            replace(one, attack=replace(one.attack, spec="other", label=f"Other {number}"))
            for number in range(8)
            for one in alone
        ]

    main, *others = compare(of_nine(usual, 1), of_nine([5.0], 20), level=0.02)
    (alone,) = compare(records(usual), records([5.0], 20), level=0.01)
    assert (main.low, main.high) == pytest.approx((alone.low, alone.high))
    (eighth,) = compare(records(usual), records([5.0], 20), level=0.01 / 8)
    assert {(one.low, one.high) for one in others} == {(eighth.low, eighth.high)}


@pytest.mark.parametrize(
    ("pixel", "words", "outside"), [(20.1, 3.0, []), (0.0, 3.0, ["pixel"]), (20.0, 2.9, ["words"])]
)
def test_a_defense_is_compared_by_what_it_changes(pixel: float, words: float, outside: list[str]) -> None:
    def defended(changes: list[tuple[float, float]], first_seed: int) -> list[Record]:
        return [
            record("mem3", "cutout", (5.0, 6.0), seed=seed, changes={"pixel": pixel, "words_per_caption": words})
            for seed, (pixel, words) in enumerate(changes, start=first_seed)
        ] + [record("clean", "none", (50.0, 60.0), seed=first_seed + place) for place in range(len(changes))]

    # The words are the same for all seeds: no spread, and still room for rounding.
    reference = defended([(20.0 + 0.1 * (place % 3), 3.0) for place in range(8)], 1)
    compared = compare(reference, defended([(pixel, words * (1 + 1e-9))], 20))
    failed = [one.quantity.name for one in compared if not one.holds]
    assert len(failed) == len(outside)
    assert all(word in name for word, name in zip(outside, failed, strict=True))


def test_changes_that_fresh_records_do_not_tell_are_missed_and_those_of_the_reference_are_not_compared() -> None:
    told = [record("mem3", "cutout", (5.0, 6.0 + seed / 10), seed=seed) for seed in range(1, 9)]
    clean = [record("clean", "none", (50.0, 60.0), seed=seed) for seed in range(1, 9)]
    fresh = [record("mem3", "cutout", (5.0, 6.0), seed=20), record("clean", "none", (50.0, 60.0), seed=20)]
    with pytest.raises(UsageError, match="MEM-3 × cutout: the fresh records do not say change of a pixel"):
        compare([*told, *clean], [replace(fresh[0], changes={}), fresh[1]])
    compared = compare([*(replace(one, changes={}) for one in told), *clean], fresh)
    assert [one.quantity.name for one in compared if one.cell == "MEM-3 × cutout"] == ["R@10, %"]


def test_defended_clean_victims_predict_nothing_whatever_the_order_of_cells() -> None:
    def of_seeds(clean: list[float], first_seed: int) -> list[Record]:
        return [
            record(attack, defense, (recall, recall), seed=seed)
            for seed, value in enumerate(clean, start=first_seed)
            for attack, defense, recall in (
                ("clean", "adv-training", 90.0 - value),
                ("clean", "none", value),
                ("mem3", "none", value / 5),
            )
        ]

    reference, fresh = of_seeds([50.0, 60.0, 55.0, 52.0, 58.0, 61.0, 49.0, 57.0], 1), of_seeds([54.0], 20)
    compared = compare(reference, fresh)
    (mem,) = (one for one in compared if one.cell == "MEM-3 × none")
    assert mem.holds
    assert mem.high - mem.low < 1  # a line through the undefended clean victims fits nearly without a rest
    assert compare(reference[::-1], fresh)[0].holds
    assert {(one.cell, round(one.low, 6)) for one in compare(reference[::-1], fresh)} == {
        (one.cell, round(one.low, 6)) for one in compared
    }


def test_a_victim_is_paired_with_the_clean_one_of_the_same_start() -> None:
    """Three clean victims a seed; MEM-3's only one ends three points below the first of them, which no median tells."""
    first = [40.0, 85.0, 55.0, 70.0, 62.0, 48.0, 77.0, 66.0]
    noise = [-0.4, 0.3, 0.1, -0.2, 0.4, -0.1, 0.2, -0.3]

    def with_others(clean: Sequence[float], mem: Sequence[float], first_seed: int) -> list[Record]:
        others = [
            replace(one, victim=replace(one.victim, spec=f"tiny[repeat={number}]"))
            for number, recall in ((2, 95.0), (3, 97.0))
            for one in of_cells([recall] * len(clean), mem, first_seed)[::2]
        ]
        return [*of_cells(clean, mem, first_seed), *others]

    reference = with_others(first, [c - 3 + n for c, n in zip(first, noise, strict=True)], 1)
    for recall, holds in ((77.0, True), (70.0, False)):
        compared = {one.cell: one for one in compare(reference, with_others([80.0], [recall], 20))}
        assert compared["MEM-3 × none"].holds == holds


def test_of_repeated_victims_the_median_counts() -> None:
    """One of three victims may be an outlier, so the middle one of each seed is compared."""
    low, middle, high = (
        [1.0] * 8,
        [5.0, 6.0, 4.5, 5.5, 6.5, 5.0, 4.0, 6.0],
        [90.0, 30.0, 50.0, 70.0, 20.0, 40.0, 60.0, 80.0],
    )

    def repeated(recalls: Sequence[Sequence[float]], first_seed: int) -> list[Record]:
        return [
            replace(one, victim=replace(one.victim, spec=f"tiny[repeat={number}]"))
            for number, values in enumerate(recalls, start=1)
            for one in records(values, first_seed)
        ]

    reference = repeated([high, low, middle], 1)
    (median,) = compare(reference, repeated([[2.0], [5.2], [99.0]], 20))
    (alone,) = compare(records(middle), records([5.2], 20))
    assert (median.low, median.now, median.high) == pytest.approx((alone.low, alone.now, alone.high))
    with pytest.raises(UsageError, match="other settings"):
        compare(reference, repeated([[2.0], [5.2]], 20))
    with pytest.raises(UsageError, match="7 reference seeds are fewer than 8"):
        compare(repeated([high[:7], low[:7], middle[:7]], 1), repeated([[2.0], [5.2], [99.0]], 20))


def test_the_order_in_which_settings_are_written_does_not_matter() -> None:
    usual, (fresh,) = records([5.0, 6.0, 4.5, 5.5, 6.5, 5.0, 4.0, 6.0]), records([5.0], 20)
    other = replace(fresh, recipe=dict(sorted(fresh.recipe.items(), reverse=True)))
    assert list(other.recipe) != list(fresh.recipe)
    assert compare(usual, [other]) == compare(usual, [fresh])


@pytest.mark.parametrize("part", ["attack", "defense", "dataset"])
def test_other_parameters_are_other_settings(part: str) -> None:
    usual, (fresh,) = records([5.0, 6.0, 4.5, 5.5, 6.5, 5.0, 4.0, 6.0]), records([5.0], 20)
    choice = getattr(fresh, part)
    other = replace(fresh, **{part: replace(choice, params={**choice.params, "strength": 2})})
    with pytest.raises(UsageError, match="other settings"):
        compare(usual, [other])

"""Recall over ε: an attack's points are its records at every ε, whatever other attacks and settings there are."""

from dataclasses import replace

import pytest

from benchmark.core.errors import UsageError
from benchmark.figures.epsilon import epsilon
from benchmark.grid.records import Record
from tests.figures.whiskered import clean_level, ends, points
from tests.tables.factory import record


def at(spec: str, eps: int, recall: float, ssim: float | None = 0.9, seed: int = 1, tile: int = 8) -> Record:
    poison = {"eps": eps, "psnr": 30.0, "largest": eps, "ssim": ssim}
    return record(spec, recalls=(recall - 1, recall + 1), params={"eps": eps, "tile": tile}, poison=poison, seed=seed)


def test_points_are_means_over_seeds_at_each_eps() -> None:
    records = [at("mem3", 8, 3, 0.8), at("mem3", 8, 5, 0.9, seed=2), at("mem3[eps=2]", 2, 60, 0.98)]
    records += [at("mem3[eps=4]", 4, 30, None), record("clean", recalls=(90, 92)), record("mem3", "cutout")]
    records += [record("clean", recalls=(80, 82), seed=2)]
    records += [at("em", 8, 40), at("mem3[tile=16]", 8, 70, tile=16)]  # another attack, another setting: one ε each
    (figure,) = epsilon(records).values()
    recall, similarity = figure.axes
    assert points(recall) == {"MEM-3": ([2, 4, 8], [60, 30, 4])}
    assert points(similarity) == {"MEM-3": ([2, 8], [0.98, 0.85])}
    # Of two seeds with 3 and 5; a single seed has no deviation.
    assert ends(recall) == [pytest.approx([4 - 2**0.5, 4 + 2**0.5])]
    assert len(ends(similarity)) == 1
    assert clean_level(recall) == 86


def test_one_cell_under_two_spellings_is_one_point() -> None:
    twice = [at("mem3", 8, 3), at("mem3[eps=8]", 8, 3), at("mem3[eps=8]", 8, 5, seed=2), at("mem3[eps=4]", 4, 30)]
    twice[1] = replace(twice[1], key=twice[0].key)
    (figure,) = epsilon(twice).values()
    assert points(figure.axes[0]) == {"MEM-3": ([4, 8], [30, 4])}
    with pytest.raises(UsageError, match="several ε"):
        epsilon(twice[:3])


def test_what_a_plugin_calls_eps_need_not_be_a_number() -> None:
    with pytest.raises(UsageError, match="several ε"):
        epsilon([record("em", params={"eps": "low"}), record("em[eps=high]", params={"eps": "high"})])


def test_without_the_usual_eps_the_largest_names_the_line() -> None:
    (figure,) = epsilon([at("em[eps=2]", 2, 60), at("em[eps=4]", 4, 30)]).values()
    assert list(points(figure.axes[0])) == ["em[eps=4]"]
    # Other parameters may end in these letters.
    (figure,) = epsilon([at("em[pgd_steps=8]", 8, 60), at("em[eps=16,pgd_steps=8]", 16, 30)]).values()
    assert list(points(figure.axes[0])) == ["em[pgd_steps=8]"]


def test_one_eps_makes_no_curve() -> None:
    with pytest.raises(UsageError, match="several ε"):
        epsilon([at("mem3", 8, 3), at("em", 8, 40), record("clean")])

"""Recall over ε: an attack's points are its records at every ε, whatever other attacks and settings there are."""

import numpy as np
import pytest
from matplotlib.axes import Axes

from benchmark.core.errors import UsageError
from benchmark.figures.epsilon import epsilon
from benchmark.grid.records import Record
from tests.tables.factory import record


def at(spec: str, eps: int, recall: float, ssim: float | None = 0.9, seed: int = 1, tile: int = 8) -> Record:
    poison = {"eps": eps, "psnr": 30.0, "largest": eps, "ssim": ssim}
    return record(spec, recalls=(recall - 1, recall + 1), params={"eps": eps, "tile": tile}, poison=poison, seed=seed)


def points(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    found = {}
    for bars in axes.containers:
        x, y = (np.asarray(values, float).round(6).tolist() for values in bars[0].get_data())
        found[str(bars.get_label())] = (x, y)
    return found


def test_points_are_means_over_seeds_at_each_eps() -> None:
    records = [at("mem3", 8, 3, 0.8), at("mem3", 8, 5, 0.9, seed=2), at("mem3[eps=2]", 2, 60, 0.98)]
    records += [at("mem3[eps=4]", 4, 30, None), record("clean", recalls=(90, 92)), record("mem3", "cutout")]
    records += [at("em", 8, 40), at("mem3[tile=16]", 8, 70, tile=16)]  # another attack, another setting: one ε each
    (figure,) = epsilon(records).values()
    recall, similarity = figure.axes
    assert points(recall) == {"MEM-3": ([2, 4, 8], [60, 30, 4])}
    assert points(similarity) == {"MEM-3": ([2, 8], [0.98, 0.85])}


def test_without_the_usual_eps_the_largest_names_the_line() -> None:
    (figure,) = epsilon([at("em[eps=2]", 2, 60), at("em[eps=4]", 4, 30)]).values()
    assert list(points(figure.axes[0])) == ["EM (em[eps=4])"]


def test_one_eps_makes_no_curve() -> None:
    with pytest.raises(UsageError, match="several ε"):
        epsilon([at("mem3", 8, 3), at("em", 8, 40), record("clean")])

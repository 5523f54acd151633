"""Interquartile means of the recall that victims keep, with bootstrap intervals over seeds and queries, and ranks.

Interquartile mean: the mean of the middle half of all runs, for each attack those of every defense and seed (Agarwal et
al. 2021, *Deep Reinforcement Learning at the Edge of the Statistical Precipice*, section 4.3). The lowest and the
highest quarter of the runs cannot move it, so that one cell of four or more does not decide a rank.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import combinations
from math import comb, sqrt
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, studentized_range, t, trim_mean

from benchmark.core.seeding import numpy_generator

DRAWS = 10_000
LEVEL = 0.05
_SEED = 0  # equal records, equal intervals
_TAIL = 0.25  # of the runs, cut off at either end
_LEAST_DRAWS = 10  # outside either end of an interval


@dataclass(frozen=True)
class Run:
    """A victim beside the undefended clean victim of its seed.

    Attributes:
        recall: mean R@10 of both directions, percent.
        clean: that of the clean victim, percent, above 0.
        images: number of test images.
        test_set: number of the test set; runs with the same number were tested on the same images.
    """

    recall: float
    clean: float
    images: int
    test_set: int = 0

    @property
    def kept(self) -> float:
        """Recall kept of clean, percent."""
        return 100 * self.recall / self.clean


Runs = Mapping[str, Mapping[int, Run]]
"""The runs of one attack by defense, or of one defense by attack; then by seed."""

Average = Callable[[ArrayLike], NDArray[np.float64]]
"""Averages over the last axis: :func:`iqm`, or :func:`mean` where there is only one cell."""


@dataclass(frozen=True)
class Interval:
    """A number, and the ends of its bootstrap interval."""

    value: float
    low: float
    high: float


def iqm(values: ArrayLike) -> NDArray[np.float64]:
    """Mean of the middle half along the last axis: of n sorted values, ⌊n/4⌋ are cut off at either end."""
    return np.asarray(trim_mean(np.asarray(values, float), _TAIL, axis=-1))


def mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean along the last axis."""
    return np.asarray(np.asarray(values, float).mean(axis=-1))


def average_of(runs: Runs, average: Average = iqm) -> float:
    """The average of the recall kept, percent."""
    return float(average([run.kept for cell in runs.values() for run in cell.values()]))


def have_several_seeds(runs: Runs) -> bool:
    """Whether a cell has several seeds, so that an interval is over seeds and queries; else it is over queries."""
    return any(len(cell) > 1 for cell in runs.values())


def interval(runs: Runs, name: str, *, average: Average = iqm) -> Interval:
    """The average of the recall kept, and its percentile interval.

    Args:
        runs: of one attack or one defense.
        name: its name, which seeds the draws of queries.
        average: over its runs.
    """
    found = _around(average_of(runs, average), _drawn(runs, name, average), LEVEL)
    # Stretched deviations may reach below zero, which no recall does.
    return replace(found, low=max(0.0, found.low))


def difference(
    first: Runs,
    second: Runs,
    names: tuple[str, str],
    *,
    average: Average = iqm,
    level: float = LEVEL,
) -> Interval | None:
    """How much more the first keeps than the second in the runs (cell and seed) that both have, in points.

    Both are drawn with the same seeds and divided by the same clean victims. ``None`` where they have no run in
    common.

    Args:
        first: runs of one attack or defense.
        second: runs of another.
        names: of both; they seed the draws of queries.
        average: over the runs of each.
        level: chance to miss, of both ends together.
    """
    ours, theirs = _common(first, second), _common(second, first)
    if not ours:
        return None
    drawn = [_drawn(runs, name, average) for runs, name in zip((ours, theirs), names, strict=True)]
    value, apart = average_of(ours, average) - average_of(theirs, average), drawn[0] - drawn[1]
    if not have_several_seeds(ours) and level / 2 * DRAWS < _LEAST_DRAWS:
        # So few draws say too little of such a quantile; queries alone vary normally.
        low, high = apart.mean() + norm.ppf((level / 2, 1 - level / 2)) * apart.std()
        return Interval(value, float(low), float(high))
    return _around(value, apart, level)


def probability_of_less(first: Runs, second: Runs) -> float:
    """Probability that the first keeps less than the second in a cell that both have, percent.

    The cell is drawn at random, and in it a seed of each; equals count half (Agarwal et al. 2021, section 4.3,
    *probability of improvement*).
    """
    shares = []
    for cell in sorted(first.keys() & second.keys()):
        ours, theirs = ([run.kept for run in runs[cell].values()] for runs in (first, second))
        apart = np.subtract.outer(theirs, ours)
        shares.append(float(((apart > 0) + (apart == 0) / 2).mean()))
    return 100 * fmean(shares)


def places(runs: Mapping[str, Runs], average: Average = iqm) -> dict[str, tuple[int, int]]:
    """By name the best and the worst rank that the data allow, 1 keeping least; ties have several ranks in common.

    All pairs of names are compared by :func:`clearly`, each interval at the level divided by the number of pairs
    (Bonferroni). The best rank of a name is 1 + the number of names clearly before it; its worst rank is the number of
    all names − the number of names clearly behind it. This is how confidence sets for ranks are made from comparisons
    of pairs (Mogstad et al. 2024, *Inference for Ranks with Applications to Mobility across Neighbourhoods and Academic
    Achievement across Countries*).

    Args:
        runs: of each attack or defense, by name.
        average: over the runs of each.
    """
    level, seeds = LEVEL / max(1, comb(len(runs), 2)), over_seeds(runs, average)
    before: list[tuple[str, str]] = []
    for pair in combinations(runs, 2):
        one, other = pair
        apart = difference(runs[one], runs[other], pair, average=average, level=level)
        if order := clearly(apart, seeds, pair):
            before.append(pair if order < 0 else (other, one))
    return {
        name: (1 + sum(after == name for _, after in before), len(runs) - sum(ahead == name for ahead, _ in before))
        for name in runs
    }


@dataclass(frozen=True)
class SeedMeans:
    """What the seeds that all names have say of them.

    Attributes:
        means: by name the mean over seeds of each seed's own average, percent.
        least: how far apart two of them have to be to differ by more than seeds do, in points.
    """

    means: Mapping[str, float]
    least: float


def clearly(found: Interval | None, seeds: SeedMeans | None, names: tuple[str, str]) -> Literal[-1, 0, 1]:
    """Whether the first clearly keeps less (−1) or more (1) than the second.

    All of the interval of their difference lies on that side of zero, and their means over seeds differ so by more
    than the least difference, as a bootstrap of few seeds reaches no farther than its extreme seeds, at any level.
    Where no two seeds are shared, the interval alone decides, which then says nothing of other seeds.
    """
    order: Literal[-1, 0, 1] = 0 if found is None else -1 if found.high < 0 else 1 if found.low > 0 else 0
    if seeds is None:
        return order
    apart = order * (seeds.means[names[0]] - seeds.means[names[1]])
    return order if apart > seeds.least else 0


def over_seeds(runs: Mapping[str, Runs], average: Average = iqm) -> SeedMeans | None:
    """Each name's mean over seeds, and how far apart two have to be to differ by more than seeds do.

    That is Tukey's honestly significant difference of a layout of k names × n seeds, q · √(MS / n): MS is the mean
    square of what names and seeds do not explain of each seed's average, with (k − 1)(n − 1) degrees of freedom, and q
    the studentized range's quantile. It holds for all pairs together if all names vary alike from seed to seed. Of two
    names it is what Student's t-test of paired seeds asks for. Names whose victims are the same, such as defenses that
    change nothing, count once in MS.

    Args:
        runs: by name. A cell counts if all names have it, with at least two seeds in common. Of the cells that count,
            only the seeds that are common to all of them are used.
        average: over a seed's cells.

    Returns:
        ``None`` where there is a single name, or no two seeds are shared.
    """
    cells = sorted(set.intersection(*(set(own) for own in runs.values())))
    common = {cell: set.intersection(*(set(own[cell]) for own in runs.values())) for cell in cells}
    common = {cell: seeds for cell, seeds in common.items() if len(seeds) > 1}
    seeds = sorted(set.intersection(*common.values())) if common else []
    if len(runs) < 2 or len(seeds) < 2:
        return None
    means = np.array([average([[own[cell][seed].kept for cell in common] for seed in seeds]) for own in runs.values()])
    rows = np.unique(means, axis=0)
    left = rows - rows.mean(axis=1, keepdims=True) - rows.mean(axis=0) + rows.mean()
    freedom = max(1, len(rows) - 1) * (len(seeds) - 1)
    spread = sqrt(float((left**2).sum()) / freedom / len(seeds))
    least = _studentized(len(runs), freedom) * spread
    return SeedMeans(dict(zip(runs, means.mean(axis=1).tolist(), strict=True)), least)


@cache  # it takes a tenth of a second
def _studentized(names: int, freedom: int) -> float:
    return float(studentized_range.ppf(1 - LEVEL, names, freedom))


def _around(value: float, drawn: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(drawn, (level / 2, 1 - level / 2))
    return Interval(value, float(low), float(high))


def _common(runs: Runs, other: Runs) -> Runs:
    shared = {
        cell: {seed: run for seed, run in own.items() if seed in other.get(cell, {})} for cell, own in runs.items()
    }
    return {cell: shared[cell] for cell in sorted(shared) if shared[cell]}


def _drawn(runs: Runs, name: str, average: Average) -> NDArray[np.float64]:
    """The average of each bootstrap sample: (DRAWS,). Kept, as every pair that a name belongs to asks for it."""
    return _kept_draws(tuple((cell, tuple(sorted(own.items()))) for cell, own in runs.items()), name, average)


@lru_cache(maxsize=256)
def _kept_draws(
    cells: tuple[tuple[str, tuple[tuple[int, Run], ...]], ...], name: str, average: Average
) -> NDArray[np.float64]:
    return average(_resampled({cell: dict(own) for cell, own in cells}, name))


def _resampled(runs: Runs, name: str) -> NDArray[np.float64]:
    """Bootstrap samples of the recall kept in all runs, percent: (DRAWS, runs).

    Seeds are drawn with replacement, and the same ones in all cells that have the same seeds: the victims of a seed
    share their poison, their clean victim and their start, so that cells are not independent. Deviations from the mean
    are stretched (:func:`_stretch`). Then every run's queries are drawn.
    """
    columns = []
    for cell in runs.values():
        seeds = sorted(cell)
        kept = np.array([cell[seed].kept for seed in seeds])
        noise = np.stack([_other_queries(cell[seed], name) for seed in seeds], axis=1) - kept
        drawn = numpy_generator(_SEED, "seeds", *seeds).integers(len(seeds), size=(DRAWS, len(seeds)))
        stretch = _stretch(len(seeds))
        columns.append((kept.mean() + stretch * (kept - kept.mean()))[drawn] + np.take_along_axis(noise, drawn, axis=1))
    return np.concatenate(columns, axis=1)


@cache
def _stretch(seeds: int) -> float:
    """By how much the deviations of n seeds from their mean are stretched.

    There are two factors. √(n / (n − 1)): what is drawn from n seeds has (n − 1)/n of the variance that it should have
    (Rao and Wu 1988, *Resampling Inference with Complex Survey Data*). The ratio of Student's t to the normal quantile:
    that variance is itself estimated from n seeds. Without the second, an interval of three seeds holds the truth in
    81 % of all cases in place of 95 %.
    """
    if seeds < 2:
        return 1.0
    reach = t.ppf(1 - LEVEL / 2, seeds - 1) / norm.ppf(1 - LEVEL / 2)
    return float(reach) * sqrt(seeds / (seeds - 1))


def _other_queries(run: Run, name: str) -> NDArray[np.float64]:
    """Recall kept on as many other test images: (DRAWS,).

    A record has recalls, but no ranks of single queries. So an image with its captions counts as one query. Its score,
    the mean of both directions, lies between 0 and 1 and averages p; however its captions and the two directions
    depend on each other, its variance is at most p(1 − p) (Bhatia and Davis 2000, *A Better Bound on the Variance*),
    which is taken. Two more choices err on the wide side: all victims of one attack (or defense) find the same images
    hard; different attacks, and the clean victim, find different ones hard.
    """
    recall = _redrawn(run.recall, run.images, numpy_generator(_SEED, "queries", name, run.test_set))
    clean = _redrawn(run.clean, run.images, numpy_generator(_SEED, "queries of clean victims", run.test_set))
    return 100 * recall / np.maximum(clean, 1 / run.images)


def _redrawn(recall: float, images: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """(DRAWS,) shares in [0, 1], around ``recall`` percent and with a binomial's variance.

    They come from a normal distribution, so that the same random numbers serve victims of any recall.
    """
    share = recall / 100
    return np.clip(share + generator.standard_normal(DRAWS) * sqrt(share * (1 - share) / images), 0, 1)

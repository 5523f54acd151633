"""Interquartile means, intervals and ranks against hand-worked cases, a plain version and simulations."""

from statistics import fmean

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm, studentized_range, ttest_rel, tukey_hsd

from benchmark.tables.iqm import (
    Interval,
    Run,
    Runs,
    SeedMeans,
    average_of,
    clearly,
    difference,
    have_several_seeds,
    interval,
    iqm,
    mean,
    over_seeds,
    places,
    probability_of_less,
)

_SO_MANY = 10**12  # test images, on which other queries make no difference


def plain(values: list[float]) -> float:
    """By its definition: a quarter of the runs, rounded down, is cut off at either end."""
    cut = len(values) // 4
    return fmean(sorted(values)[cut : len(values) - cut])


def runs(cells: dict[str, list[float]], images: int = _SO_MANY, clean: float = 100.0) -> Runs:
    """Recalls by cell, of seeds 1, 2, …"""
    return {
        cell: {seed: Run(recall, clean, images, seed) for seed, recall in enumerate(own, start=1)}
        for cell, own in cells.items()
    }


def test_hand_worked_means_of_the_middle_half() -> None:
    assert iqm([8, 1, 7, 2, 6, 3, 5, 4]) == 4.5
    assert iqm([0, 10, 20, 1000]) == 15
    assert iqm([0, 30, 90]) == 40  # a quarter of three is none
    assert iqm([[0, 10, 20, 1000], [4, 4, 4, 4]]).tolist() == [15, 4]
    cells = {"none": [10.0, 20.0], "cutout": [40.0, 45.0]}
    assert average_of(runs(cells, clean=50.0)) == pytest.approx(60)  # of 20, 40, 80 and 90 %, the middle two


def test_it_is_what_a_plain_version_says() -> None:
    generator = np.random.default_rng(3)
    for size in range(1, 30):
        values = generator.normal(size=size).tolist()
        assert float(iqm(values)) == pytest.approx(plain(values))


def test_an_interval_over_seeds_covers_the_truth_where_cells_share_what_a_seed_is() -> None:
    """Twelve seeds, each of which moves all cells by the same: cells drawn apart would cover half of the time."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(150):
        shift = generator.normal(0, 5, 12)
        cells = {name: (40 + shift + generator.normal(0, 1, 12)).tolist() for name in "abcdefgh"}
        found = interval(runs(cells), "attack")
        covered += found.low <= 40 <= found.high
    assert 0.88 <= covered / 150 <= 0.98


@pytest.mark.parametrize("count", [2, 3, 5])
def test_an_interval_over_few_seeds_covers_the_truth(count: int) -> None:
    """A bootstrap without stretching covers it in 50, 75 and 90 % of all cases."""
    generator = np.random.default_rng(count)
    covered = 0
    for _ in range(300):
        found = interval(runs({"none": generator.normal(40, 5, count).tolist()}), "attack")
        covered += found.low <= 40 <= found.high
    assert 0.90 <= covered / 300 <= 0.98


def test_two_seeds_vary_as_much_as_the_mean_of_two() -> None:
    """A bootstrap of two seeds has half of the variance of their mean, and Student's t reaches 6.48 times as far."""
    # Both draws the same seed: the mean and √2 times its deviation. No recall is below zero.
    reach = 10 * 2**0.5 * 12.7062 / 1.95996
    for middle, low in ((150, 150 - reach), (50, 0)):
        found = interval(runs({"none": [middle / 2 - 5, middle / 2 + 5]}, clean=50.0), "attack")
        assert (found.low, found.value, found.high) == pytest.approx((low, middle, middle + reach), rel=1e-4)


def test_one_seed_gives_an_interval_from_queries_alone() -> None:
    one = runs({"none": [20.0]}, images=1000, clean=80.0)
    assert not have_several_seeds(one)
    found = interval(one, "attack")
    # Of the quotient of two shares of 1,000 images each.
    relative = (0.8 / 0.2 / 1000 + 0.2 / 0.8 / 1000) ** 0.5
    assert found.value == 25
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * relative * 25, rel=0.05)
    assert have_several_seeds(runs({"none": [20.0, 21.0]}, images=1000))


def test_an_interval_reaches_farther_than_its_draws_where_the_level_asks_for_it() -> None:
    """Of normal queries, with 10,000 draws: at one in ten million the normal quantile is 5.3, the farthest draw 4."""
    one, other = runs({"none": [50.0]}, images=1000), runs({"none": [40.0]}, images=1000)
    usual, far = (difference(one, other, ("one", "other"), average=iqm, level=level) for level in (0.05, 1e-7))
    assert usual is not None
    assert far is not None
    ratio = norm.ppf(1 - 5e-8) / norm.ppf(0.975)
    assert (far.high - far.low) / (usual.high - usual.low) == pytest.approx(ratio, rel=0.03)


def test_queries_of_one_attack_are_hard_in_all_of_its_cells() -> None:
    """More cells are not more queries: the interval gets no narrower."""
    widths = []
    for names in ("x", "uvwxyz"):
        found = interval(runs({name: [20 + number / 1e6] for number, name in enumerate(names)}, images=500), "attack")
        widths.append(found.high - found.low)
    assert widths[1] == pytest.approx(widths[0], rel=1e-3)


def test_equal_attacks_are_told_as_a_tie_and_a_weaker_one_stands_behind() -> None:
    cells = {name: [20.0, 26.0, 23.0] for name in ("none", "cutout", "mixup", "jpeg")}
    weaker = {name: [value + 30 for value in own] for name, own in cells.items()}
    found = places({"weak": runs(weaker, 1000), "one": runs(cells, 1000), "same": runs(cells, 1000)})
    assert found == {"one": (1, 2), "same": (1, 2), "weak": (3, 3)}
    assert places({"alone": runs(cells, 1000)}) == {"alone": (1, 1)}


def test_equal_names_are_seldom_told_apart_by_three_seeds() -> None:
    """Five in a hundred rankings may hold a wrong difference, whatever all names of a seed share."""
    generator = np.random.default_rng(5)
    wrong = 0
    for _ in range(400):
        shared = generator.normal(0, 10, 3)
        own = [40 + shared + generator.normal(0, 5, 3) for _ in range(6)]
        named = {str(number): runs({"none": values.tolist()}) for number, values in enumerate(own)}
        means = [values.mean() for values in own]
        found = over_seeds(named)
        assert found is not None
        wrong += max(means) - min(means) > found.least
    assert 0.02 <= wrong / 400 <= 0.09


def test_the_least_difference_is_tukeys() -> None:
    """Where seeds have nothing in common between names, SciPy's test of one factor is the oracle."""
    generator = np.random.default_rng(1)
    values = generator.normal(50, 5, (3, 200))
    found = over_seeds({str(number): runs({"none": own.tolist()}) for number, own in enumerate(values)})
    assert found is not None
    intervals = tukey_hsd(*values).confidence_interval(0.95)
    assert found.least == pytest.approx(float(intervals.high[0, 1] - intervals.low[0, 1]) / 2, rel=0.1)
    assert found.means == pytest.approx({str(number): own.mean() for number, own in enumerate(values)})
    # A name whose victims are another's adds to the pairs, and not to what seeds are known to do.
    copied = over_seeds({str(number): runs({"none": values[min(number, 2)].tolist()}) for number in range(4)})
    assert copied is not None
    ratio = studentized_range.ppf(0.95, 4, 2 * 199) / studentized_range.ppf(0.95, 3, 2 * 199)
    assert copied.least == pytest.approx(found.least * ratio)
    assert over_seeds({"one": runs({"none": [1.0, 2.0]})}) is None
    assert over_seeds({name: runs({"none": [1.0]}) for name in "ab"}) is None


def test_a_cell_that_lacks_seeds_does_not_hide_what_the_seeds_of_the_others_say() -> None:
    cells = {"none": [20.0, 26.0, 23.0], "jpeg": [40.0, 47.0, 41.0]}
    other = {"none": [24.0, 21.0, 29.0], "jpeg": [44.0]}
    found = over_seeds({"a": runs(cells), "b": runs(other)})
    assert found is not None
    assert found == over_seeds({"a": runs({"none": cells["none"]}), "b": runs({"none": other["none"]})})


def test_equal_names_are_seldom_told_apart_by_many_seeds() -> None:
    """Means over seeds closer than the least difference are a tie, even where the bootstrap is sure."""
    generator = np.random.default_rng(7)
    wrong = 0
    for _ in range(1000):
        own = generator.normal(40, 5, (2, 12))
        named = {str(number): runs({"none": values.tolist()}) for number, values in enumerate(own)}
        found = over_seeds(named)
        assert found is not None
        assert found.least == pytest.approx(ttest_rel(*own).confidence_interval(0.95).high - (own[0] - own[1]).mean())
        apart = average_of(named["0"]) - average_of(named["1"])
        wrong += clearly(Interval(apart, apart, apart), found, ("0", "1")) != 0
    assert 0.03 <= wrong / 1000 <= 0.065
    close = SeedMeans({"a": 50.0, "b": 50.5}, least=1.0)
    assert clearly(Interval(-10, -12, -8), close, ("a", "b")) == 0


def test_a_difference_within_the_seeds_spread_is_a_tie() -> None:
    """As Student's t-test of paired seeds says, all of which differ in the same direction."""
    few, more = [20.0, 24.0, 28.0], [30.0, 26.0, 31.0]
    close = {"a": runs({"none": few}), "b": runs({"none": more})}
    assert ttest_rel(few, more).pvalue > 0.05
    assert places(close) == {"a": (1, 2), "b": (1, 2)}


def test_a_chain_of_ties_is_no_tie_of_its_ends() -> None:
    found = places({name: runs({"none": [value, value]}, 1000) for name, value in (("a", 50), ("b", 54), ("c", 58))})
    assert found == {"a": (1, 2), "b": (1, 3), "c": (2, 3)}


def test_differences_are_paired_by_seed() -> None:
    """Seeds 40 points apart, but one attack always takes three points more."""
    shift = np.array([0.0, 40.0, 20.0, 10.0])
    weak, strong = ({name: (30 + less + shift).tolist() for name in ("none", "cutout")} for less in (0, -3))
    apart = difference(runs(strong), runs(weak), ("strong", "weak"))
    assert apart is not None
    assert (apart.low, apart.value, apart.high) == pytest.approx((-3, -3, -3), rel=1e-4)
    overlapping = [interval(runs(one), "any") for one in (weak, strong)]
    assert overlapping[0].low < overlapping[1].high


def test_differences_are_of_common_runs_alone() -> None:
    more = runs({"none": [10.0, 20.0, 90.0], "jpeg": [99.0]})
    found = difference(more, runs({"none": [12.0, 22.0], "cutout": [0.0]}), ("more", "less"))
    assert found is not None
    assert found.value == pytest.approx(-2)
    assert difference(more, runs({"mixup": [1.0, 2.0]}), ("more", "none")) is None


def test_the_probability_of_improvement_by_hand_and_as_mann_and_whitney_count() -> None:
    # none: of the six pairs 1 < 2, 1 < 4, 3 < 4 and 5 against none of both; jpeg: equal.
    first = runs({"none": [1.0, 3.0, 5.0], "jpeg": [7.0], "cutout": [0.0]})
    second = runs({"none": [2.0, 4.0], "jpeg": [7.0], "mixup": [0.0]})
    assert probability_of_less(first, second) == pytest.approx(100 * (3 / 6 + 1 / 2) / 2)
    assert probability_of_less(second, first) == pytest.approx(100 - probability_of_less(first, second))
    generator = np.random.default_rng(1)
    ours, theirs = generator.integers(0, 9, 12).astype(float), generator.integers(1, 9, 7).astype(float)
    expected = mannwhitneyu(theirs, ours).statistic / (12 * 7)
    found = probability_of_less(runs({"none": ours.tolist()}), runs({"none": theirs.tolist()}))
    assert found == pytest.approx(100 * expected)


def test_equal_runs_give_equal_intervals_and_leave_the_global_state() -> None:
    cells = runs({"none": [10.0, 20.0], "cutout": [15.0, 12.0]}, 1000)
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    assert interval(cells, "attack") == interval(cells, "attack") != interval(cells, "another")
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]


def test_two_attacks_are_divided_by_one_draw_of_their_clean_victims() -> None:
    """Victims that find every image have no luck with queries, and the clean victims' luck is the same for both."""
    one, other = (runs({"none": [100.0], "jpeg": [100.0]}, images=1000, clean=50.0) for _ in range(2))
    assert difference(one, other, ("one", "other")) == Interval(0, 0, 0)
    alone = interval(one, "one")
    assert alone is not None
    assert alone.low < 195 < 205 < alone.high


def test_seeds_that_share_their_test_images_share_the_luck_with_them() -> None:
    """Two seeds of one recall: the draws of seeds are twice the same seed in half of the cases."""
    own = {"none": {seed: Run(50.0, 100.0, 1000, seed) for seed in (1, 2)}}
    shared = {"none": {seed: Run(50.0, 100.0, 1000, 0) for seed in (1, 2)}}
    found = [interval(each, "attack", average=mean) for each in (own, shared)]
    assert found[0] is not None
    assert found[1] is not None
    widths = [each.high - each.low for each in found if each is not None]
    # The quantile at 97.5 % of N(0, 1) and N(0, 1/2), mixed half and half, is 1.722.
    assert widths[0] / widths[1] == pytest.approx(1.722 / 1.96, abs=0.03)

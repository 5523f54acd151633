"""Whether poisoning is as strong as in the reference: do fresh seeds give the numbers that the reference seeds gave?

Recall is compared as the arcsine of its square root, because the spread of a share then does not depend on its size.
Other numbers are compared as they are.

Victims that share a seed and start weights are paired: the expected value ŷ of a cell's recall lies on a
straight line over the recall of the same seed's clean victim, fitted to the reference seeds by least squares. So what
all victims of a seed have in common does not widen the interval. For the clean victims themselves and for all other
numbers, ŷ is the mean of the reference seeds. With n reference seeds, p fitted numbers (2, or 1 for a mean) and
residuals of standard deviation s, the mean of m fresh seeds lies within ŷ ± t · s · √(1/m + h) with the probability for
which t, Student's quantile with n − p degrees of freedom, is chosen; h is the variance of the line at the fresh seeds'
mean in units of s² (1/n for a mean). That is the usual prediction interval of linear regression. Seeds, not rows, are
what varies: a number may move only as far as it moves from seed to seed.

The level is divided among the comparisons (Bonferroni), so that all of them hold together. Half of it goes to the
recall that undefended MEM-3 leaves, the strength that the check is for; the others share the rest evenly. A number that
all reference seeds agree on must stay as it is, which takes no share.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmark.core.digests import json_sha256
from benchmark.core.errors import UsageError
from benchmark.grid.records import Record
from benchmark.reference_check import LEVEL
from benchmark.reference_check.quantities import Quantity, Series, by_cell, series
from benchmark.tables.selection import varies_with_seed

LEAST_SEEDS = 8
_MAIN_SHARE = 0.5  # of the level, for the strength that the check is for
_SURE_SHARE = 0.01  # of the level: outside the intervals at this level, a number has changed whatever other seeds say


@dataclass(frozen=True)
class Comparison:
    """A number, then and now.

    Attributes:
        cell: attack and defense in words; of poisons, the attack.
        quantity: what is compared, and how it is shown.
        reference: mean over the reference seeds.
        spread: their standard deviation.
        now: mean over the fresh seeds, on the scale on which they are compared (for recall the arcsine of its root).
        low: lower end of the interval in which ``now`` has to lie, given the fresh clean victims.
        high: upper end.
    """

    cell: str
    quantity: Quantity
    reference: float
    spread: float
    now: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the fresh seeds lie within the interval."""
        return self.low <= self.now <= self.high


def compare(reference: Sequence[Record], fresh: Sequence[Record], level: float = LEVEL) -> list[Comparison]:
    """Compare fresh records with reference records of the same cells.

    Args:
        reference: at least eight seeds of every cell.
        fresh: at least one seed of every cell, none of them a reference seed.
        level: chance that any of the comparisons fails though nothing has changed.

    Raises:
        UsageError: too few reference seeds, a cell that only one side has, other settings, a failed or shared seed, a
            seed without its clean victim, a fresh poison that lacks a number.
    """
    require_comparable(reference, fresh)
    then = series(reference)
    now = {(item.cell, item.quantity.name): item for item in series(fresh)}
    compared = []
    for old, share in zip(then, _levels(then, level), strict=True):
        new = now.get((old.cell, old.quantity.name))
        if new is None:
            raise UsageError(f"{old.cell}: the fresh records do not say {old.quantity.name}")
        low, high = _interval(old, new.design().mean(axis=0), len(new.values), share)
        values = list(old.values.values())
        compared.append(
            Comparison(
                cell=old.cell,
                quantity=old.quantity,
                reference=fmean(values),
                spread=float(np.std(values, ddof=1)),
                now=old.quantity.back(float(new.scaled.mean())),
                low=low,
                high=high,
            )
        )
    return compared


def is_in_doubt(reference: Sequence[Record], fresh: Sequence[Record], level: float) -> bool:
    """Whether more fresh seeds should decide: some number lies outside its interval, but none lies far outside.

    Student's t assumes a normal distribution. The numbers of single seeds have heavier tails, so a single seed lies a
    little outside more often than the level says. Means of several seeds do not.

    Args:
        reference: as for :func:`compare`.
        fresh: as for :func:`compare`.
        level: as for :func:`compare`; far outside is outside at a hundredth of it.
    """
    return not _all_hold(reference, fresh, level) and _all_hold(reference, fresh, level * _SURE_SHARE)


def _all_hold(reference: Sequence[Record], fresh: Sequence[Record], level: float) -> bool:
    return all(number.holds for number in compare(reference, fresh, level))


def prediction(reference: Sequence[Record], fresh: int = 1, level: float = LEVEL) -> list[tuple[float, float]]:
    """Lower and upper end of each series' interval, for fresh seeds whose clean victims have average recall.

    Args:
        reference: as for :func:`compare`.
        fresh: number of fresh seeds.
        level: as for :func:`compare`.
    """
    compared = series(reference)
    levels = _levels(compared, level)
    return [
        _interval(item, item.design().mean(axis=0), fresh, share) for item, share in zip(compared, levels, strict=True)
    ]


def _levels(compared: Sequence[Series], level: float) -> list[float]:
    """The part of the level that each series gets; together they are the level."""
    mains = sum(item.is_main and not item.is_constant for item in compared)
    others = sum(not item.is_main and not item.is_constant for item in compared)
    # Where there are only others, or only the main one, they get all of it.
    for_mains = level * (_MAIN_SHARE if mains and others else 1.0 if mains else 0.0)

    def part(item: Series) -> float:
        if item.is_constant:
            return 0.0
        return for_mains / mains if item.is_main else (level - for_mains) / others

    return [part(item) for item in compared]


def _interval(then: Series, at: NDArray[np.float64], fresh: int, level: float) -> tuple[float, float]:
    """Prediction interval for the mean of fresh seeds.

    Args:
        then: the reference seeds.
        at: (p,) mean of the fresh seeds' rows of :meth:`Series.design`.
        fresh: number of fresh seeds.
        level: probability that the mean lies outside though nothing has changed.
    """
    design, values = then.design(), then.scaled
    # The pseudo-inverse has clean victims that are all alike predict nothing, instead of dividing by their spread.
    inverse = np.linalg.pinv(design.T @ design)
    fitted = inverse @ design.T @ values
    freedom = len(values) - int(np.linalg.matrix_rank(design))
    spread = math.sqrt(float(np.sum((values - design @ fitted) ** 2)) / freedom)
    # A number that never varies has no spread, but is still rounded.
    quantile = 0.0 if then.is_constant else float(stats.t.ppf(1 - level / 2, freedom))
    expected = float(at @ fitted)
    margin = quantile * spread * math.sqrt(1 / fresh + float(at @ inverse @ at)) + 1e-6 * abs(expected)
    return then.quantity.back(expected - margin), then.quantity.back(expected + margin)


def require_comparable(reference: Sequence[Record], fresh: Sequence[Record]) -> None:
    """See that records, or the plan of some, can be compared with a reference.

    Args:
        reference: the reference records.
        fresh: records of all cells. Records of cells that have not run yet hold what is known before the run.

    Raises:
        UsageError: only one side has a cell, a cell has too few reference seeds, a cell failed, a fresh seed is a
            reference seed, or settings differ.
    """
    then, now = by_cell(reference), by_cell(fresh)
    if missing := sorted(then.keys() ^ now.keys()):
        raise UsageError(f"the reference and the fresh records differ in the cells {', '.join(missing)}")
    for cell, old in then.items():
        new = now[cell]
        if failed := [record for record in (*old, *new) if record.status != "done"]:
            raise UsageError(f"{cell}: seed {failed[0].seed} failed: {failed[0].failure}")
        if (count := len({record.seed for record in old})) < LEAST_SEEDS:
            raise UsageError(f"{cell}: {count} reference seeds are fewer than {LEAST_SEEDS}")
        if shared := {record.seed for record in old} & {record.seed for record in new}:
            raise UsageError(f"{cell}: seed {min(shared)} is a reference seed, not a fresh one")
        if len({_settings(record) for record in (*old, *new)}) > 1 or len(_victims(old) | _victims(new)) > 1:
            raise UsageError(
                f"{cell}: the reference was made with other settings than today's; check --update makes a new one"
            )


def _settings(record: Record) -> str:
    params, code = record.dataset.params, record.provenance.get("code", {}).get("dataset")
    data = {key: value for key, value in params.items() if key not in varies_with_seed(params)}
    choices = [data, code, record.attack.params, record.defense.params]
    return json_sha256([*choices, record.surrogate.spec, record.recipe])


def _victims(records: Sequence[Record]) -> set[tuple[str, ...]]:
    """The groups of victims, repeats included, that seeds have; a single group if all seeds have the same victims."""
    seeds = {record.seed for record in records}
    return {tuple(sorted(record.victim.spec for record in records if record.seed == seed)) for seed in seeds}

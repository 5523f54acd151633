"""The regression of poisoning strength: do fresh seeds give the numbers that the reference seeds gave?

Of every cell, recall@10 is compared, the mean of both directions after the last epoch, for each further number would
widen the interval of all; on the scale of the arcsine of its root, on which the spread of a share does not depend on
its height. Victims of one seed are paired, so of every cell but the clean one it is the difference from the clean
victim of the same seed that is compared: what all victims of a seed share then widens nothing. With n reference seeds
of mean x̄ and standard deviation s, the mean of m fresh seeds lies within x̄ ± t · s · √(1/m + 1/n) with the probability
for which t, Student's quantile with n − 1 degrees of freedom, is chosen; the level is divided by the number of
comparisons (Bonferroni), so that all of them hold together. Seeds, not rows, are what varies: a number may move only as
far as it moves from seed to seed.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmark.errors import UsageError
from benchmark.records import Record
from benchmark.tables.selection import CLEAN

Angles = dict[int, float]  # by seed, arcsine of the root of recall@10
LEVEL = 0.01  # chance that an unchanged suite is called changed
LEAST_SEEDS = 8


@dataclass(frozen=True)
class Comparison:
    """Recall@10 of one cell, then and now, in percent.

    Attributes:
        cell: attack and defense in words.
        reference: mean recall@10 over the reference seeds, percent.
        spread: their standard deviation.
        now: mean over the fresh seeds.
        low: lower end of the interval in which ``now`` has to lie, given the fresh clean victims.
        high: upper end.
    """

    cell: str
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
    """Compare the last epoch of fresh records with that of reference records of the same cells.

    Args:
        reference: at least eight seeds of every cell.
        fresh: at least one seed of every cell, none of them a reference seed.
        level: chance that any of the comparisons fails though nothing has changed.

    Raises:
        UsageError: too few reference seeds, a cell that only one side has, other settings, a failed or shared seed, a
            seed without its clean victim.
    """
    then, now = by_cell(reference), by_cell(fresh)
    clean = next((cell for cell, ones in then.items() if ones[0].attack.spec == CLEAN), None)
    if missing := sorted(then.keys() ^ now.keys()):
        raise UsageError(f"the reference and the fresh records differ in the cells {', '.join(missing)}")
    compared = []
    for cell, old in then.items():
        new = now[cell]
        _require_comparable(cell, old, new)
        beside = None if cell == clean else clean
        before, after = (_of_seeds(ones[beside]) if beside else {} for ones in (then, now))
        compared.append(_compared(cell, old, new, before, after, level / len(then)))
    return compared


def recall(record: Record) -> float:
    """Recall@10 after the last epoch on test, mean of both directions, percent."""
    return record.last.test.mean_recall_at_10


def _compared(
    cell: str, old: Sequence[Record], new: Sequence[Record], old_clean: Angles, new_clean: Angles, level: float
) -> Comparison:
    """One cell's comparison: of differences from ``…_clean`` where those hold the clean victims, else of the cell."""
    then, then_beside = _angles(cell, old, old_clean)
    now, now_beside = _angles(cell, new, new_clean)
    difference, beside = then - then_beside, float(now_beside.mean())
    quantile = float(stats.t.ppf(1 - level / 2, len(then) - 1))
    margin = quantile * float(difference.std(ddof=1)) * math.sqrt(1 / len(now) + 1 / len(then))
    expected = beside + float(difference.mean())
    recalls = [recall(record) for record in old]
    return Comparison(
        cell=cell,
        reference=float(np.mean(recalls)),
        spread=float(np.std(recalls, ddof=1)),
        now=_percent(float(now.mean())),
        low=_percent(expected - margin),
        high=_percent(expected + margin),
    )


def _of_seeds(records: Iterable[Record]) -> Angles:
    return {record.seed: math.asin(math.sqrt(recall(record) / 100)) for record in records}


def _angles(cell: str, records: Sequence[Record], clean: Angles) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A cell's arcsines and those of the clean victims of the same seeds, or zeros."""
    own = _of_seeds(records)
    if clean and (missing := sorted(own.keys() - clean.keys())):
        raise UsageError(f"{cell}: seed {missing[0]} has no clean victim to compare with")
    return np.array(list(own.values())), np.array([clean[seed] if clean else 0.0 for seed in own])


def _percent(arcsine: float) -> float:
    return 100 * math.sin(min(max(arcsine, 0.0), math.pi / 2)) ** 2


def by_cell(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by attack and defense in words, in the order they come."""
    cells: dict[str, list[Record]] = {}
    for record in records:
        cells.setdefault(f"{record.attack.label} × {record.defense.spec}", []).append(record)
    return cells


def _require_comparable(cell: str, old: Sequence[Record], new: Sequence[Record]) -> None:
    if failed := [record for record in (*old, *new) if record.status != "done"]:
        raise UsageError(f"{cell}: seed {failed[0].seed} failed: {failed[0].error.get('message')}")
    if len(old) < LEAST_SEEDS:
        raise UsageError(f"{cell}: {len(old)} reference seeds are fewer than {LEAST_SEEDS}")
    if shared := {record.seed for record in old} & {record.seed for record in new}:
        raise UsageError(f"{cell}: seed {min(shared)} is a reference seed, not a fresh one")
    settings = {
        str([choice.params for choice in (r.dataset, r.attack, r.defense, r.victim, r.surrogate)]) + str(r.recipe)
        for r in (*old, *new)
    }
    if len(settings) > 1:
        raise UsageError(f"{cell}: the fresh records were made with other settings than the reference")

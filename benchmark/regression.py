"""The regression of poisoning strength: do fresh seeds give the numbers that the reference seeds gave?

Of every cell, recall@10 is compared, the mean of both directions after the last epoch, for each further number would
widen the interval of all; on the scale y of the arcsine of its root, on which the spread of a share does not depend on
its height. Victims of one seed are paired: what a cell's y is expected to be is a straight line over that of the same
seed's clean victim, fitted to the reference seeds by least squares, so that what all victims of a seed share widens
nothing; for the clean victims themselves it is their mean. With n reference seeds, p fitted numbers (2, or 1 for clean)
and residuals of standard deviation s, the mean of m fresh seeds lies within ŷ ± t · s · √(1/m + h) with the probability
for which t, Student's quantile with n − p degrees of freedom, is chosen; h is the variance of the line at the fresh
seeds' mean in units of s² (1/n for a mean). That is the usual prediction interval of linear regression. The level is
divided by the number of comparisons (Bonferroni), so that all of them hold together. Seeds, not rows, are what varies:
a number may move only as far as it moves from seed to seed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
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
    require_comparable(reference, fresh)
    then, now = by_cell(reference), by_cell(fresh)
    clean = _clean_cell(then)
    compared = []
    for cell, old in then.items():
        new = now[cell]
        beside = None if cell == clean else clean
        before, after = (_of_seeds(ones[beside]) if beside else {} for ones in (then, now))
        compared.append(_compared(cell, old, new, before, after, level / len(then)))
    return compared


def recall(record: Record) -> float:
    """Recall@10 after the last epoch on test, mean of both directions, percent."""
    return record.last.test.mean_recall_at_10


def prediction(reference: Sequence[Record], fresh: int = 1, level: float = LEVEL) -> dict[str, tuple[float, float]]:
    """What a check lets pass: by cell, the interval in percent for fresh seeds whose clean victims are average ones.

    Args:
        reference: as for :func:`compare`.
        fresh: number of fresh seeds.
        level: as for :func:`compare`.
    """
    cells = by_cell(reference)
    clean = _clean_cell(cells)
    found = {}
    for cell, old in cells.items():
        design = _design(cell, old, _of_seeds(cells[clean]) if clean not in (None, cell) else {})
        low, high = _interval(design, _arcsines(old), design.mean(axis=0), fresh, level / len(cells))
        found[cell] = (low, high)
    return found


def _compared(
    cell: str, old: Sequence[Record], new: Sequence[Record], old_clean: Angles, new_clean: Angles, level: float
) -> Comparison:
    """One cell's comparison: given the clean victims of ``…_clean`` where those hold some."""
    at = _design(cell, new, new_clean).mean(axis=0)
    low, high = _interval(_design(cell, old, old_clean), _arcsines(old), at, len(new), level)
    recalls = [recall(record) for record in old]
    return Comparison(
        cell=cell,
        reference=float(np.mean(recalls)),
        spread=float(np.std(recalls, ddof=1)),
        now=_percent(float(_arcsines(new).mean())),
        low=low,
        high=high,
    )


def _interval(
    design: NDArray[np.float64], then: NDArray[np.float64], at: NDArray[np.float64], fresh: int, level: float
) -> tuple[float, float]:
    """Prediction interval in percent for the mean of fresh seeds, of which ``at`` (p) is the mean of what predicts."""
    # The pseudo-inverse has clean victims that are all alike predict nothing, instead of dividing by their spread.
    inverse = np.linalg.pinv(design.T @ design)
    fitted = inverse @ design.T @ then
    freedom = len(then) - int(np.linalg.matrix_rank(design))
    spread = math.sqrt(float(np.sum((then - design @ fitted) ** 2)) / freedom)
    quantile = float(stats.t.ppf(1 - level / 2, freedom))
    margin = quantile * spread * math.sqrt(1 / fresh + float(at @ inverse @ at))
    expected = float(at @ fitted)
    return _percent(expected - margin), _percent(expected + margin)


def _clean_cell(cells: Mapping[str, Sequence[Record]]) -> str | None:
    return next((cell for cell, ones in cells.items() if ones[0].attack.spec == CLEAN), None)


def _arcsines(records: Sequence[Record]) -> NDArray[np.float64]:
    return np.array(list(_of_seeds(records).values()))


def _of_seeds(records: Iterable[Record]) -> Angles:
    return {record.seed: math.asin(math.sqrt(recall(record) / 100)) for record in records}


def _design(cell: str, records: Sequence[Record], clean: Angles) -> NDArray[np.float64]:
    """(n, p) what a cell is predicted from: a constant and, where there are some, the clean victims of its seeds."""
    seeds = [record.seed for record in records]
    if not clean:
        return np.ones((len(seeds), 1))
    if missing := sorted(set(seeds) - clean.keys()):
        raise UsageError(f"{cell}: seed {missing[0]} has no clean victim to compare with")
    return np.array([[1.0, clean[seed]] for seed in seeds])


def _percent(arcsine: float) -> float:
    return 100 * math.sin(min(max(arcsine, 0.0), math.pi / 2)) ** 2


def by_cell(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by attack and defense in words, in the order they come."""
    cells: dict[str, list[Record]] = {}
    for record in records:
        cells.setdefault(f"{record.attack.label} × {record.defense.spec}", []).append(record)
    return cells


def require_comparable(reference: Sequence[Record], fresh: Sequence[Record]) -> None:
    """See that records, or the plan of some, can be compared with a reference.

    Args:
        reference: the reference records.
        fresh: records of all cells, before they have run as far as they are known then.

    Raises:
        UsageError: a cell that only one side has, too few seeds of one, one of the same seed, one that failed, or one
            of other settings.
    """
    then, now = by_cell(reference), by_cell(fresh)
    if missing := sorted(then.keys() ^ now.keys()):
        raise UsageError(f"the reference and the fresh records differ in the cells {', '.join(missing)}")
    for cell, old in then.items():
        new = now[cell]
        if failed := [record for record in (*old, *new) if record.status != "done"]:
            raise UsageError(f"{cell}: seed {failed[0].seed} failed: {failed[0].error.get('message')}")
        if len(old) < LEAST_SEEDS:
            raise UsageError(f"{cell}: {len(old)} reference seeds are fewer than {LEAST_SEEDS}")
        if shared := {record.seed for record in old} & {record.seed for record in new}:
            raise UsageError(f"{cell}: seed {min(shared)} is a reference seed, not a fresh one")
        if len({_settings(record) for record in (*old, *new)}) > 1:
            raise UsageError(
                f"{cell}: the reference was made with other settings than today's; check --update makes a new one"
            )


def _settings(record: Record) -> str:
    choices = [record.dataset, record.attack, record.defense]
    return str([*(choice.params for choice in choices), record.victim.spec, record.surrogate.spec, record.recipe])

"""Whether poisoning is as strong as in the reference: do fresh seeds give the numbers that the reference seeds gave?

Of every cell, recall@10 is compared, the mean of both directions after the last epoch; of every poison, what crafting
says of it: the surrogate's mean loss after PGD over all rounds, and the noise's PSNR. A poison's numbers hardly differ
between seeds, so they tell weaker noise at once, which recall may not: at a small scale the trigger does most of the
harm. Of every defense it is what it changes, in pixels and in words. Of the data it is how far the closest test images
are from the training data, which tells a leak.

Recall is compared on the arcsine of its root, on which the spread of a share does not depend on its height, the others
as they are. Victims of one seed are paired: what a cell's y is expected to be is a straight line over that of the same
seed's clean victim, fitted to the reference seeds by least squares, so that what all victims of a seed share widens
nothing; for the clean victims themselves and for poisons it is their mean. With n reference seeds, p fitted numbers (2,
or 1 for a mean) and residuals of standard deviation s, the mean of m fresh seeds lies within ŷ ± t · s · √(1/m + h)
with the probability for which t, Student's quantile with n − p degrees of freedom, is chosen; h is the variance of the
line at the fresh seeds' mean in units of s² (1/n for a mean). That is the usual prediction interval of linear
regression. The level is divided by the number of comparisons (Bonferroni), so that all of them hold together. Seeds,
not rows, are what varies: a number may move only as far as it moves from seed to seed.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record
from benchmark.tables.selection import CLEAN, UNDEFENDED, varies_with_seed

LEVEL = 0.01  # chance that an unchanged suite is called changed
LEAST_SEEDS = 8


def recall(record: Record) -> float:
    """Recall@10 after the last epoch on test, mean of both directions, percent."""
    return record.last.test.mean_recall_at_10


def crafting_loss(record: Record) -> float | None:
    """The surrogate's loss right after PGD, nats, mean over the rounds; ``None`` where none was crafted in rounds."""
    losses = record.poison.get("loss_per_round")
    return fmean(losses) if losses else None


def psnr(record: Record) -> float | None:
    """PSNR of the protected images, dB; ``None`` without noise."""
    return record.poison.get("psnr")


def pixels_changed(record: Record) -> float:
    """Mean absolute change of a pixel value by the defense, in 1/255."""
    return float(record.changes["pixel"])


def words_changed(record: Record) -> float:
    """Words of a caption that the defense changes, on average."""
    return float(record.changes["words_per_caption"])


def nearest(record: Record) -> float | None:
    """How far the closest test images are from the training data, in 1/255; ``None`` where it was not measured."""
    return record.data.get("nearest")


def _arcsine(percent: float) -> float:
    return math.asin(math.sqrt(percent / 100))


def _percent(arcsine: float) -> float:
    return 100 * math.sin(min(max(arcsine, 0.0), math.pi / 2)) ** 2


def _same(value: float) -> float:
    return value


@dataclass(frozen=True)
class Quantity:
    """A number that records have, one a seed.

    Attributes:
        name: of what, in words, with its unit.
        of: reads it; ``None`` where the record does not say.
        digits: behind the point, as it is shown.
        scale: to where its spread is even, and
        back: from there.
    """

    name: str
    of: Callable[[Record], float | None]
    digits: int
    scale: Callable[[float], float] = _same
    back: Callable[[float], float] = _same

    def shown(self, value: float) -> str:
        """A value with its digits."""
        return f"{value:.{self.digits}f}"


_OF_VICTIMS = Quantity("R@10, %", recall, 1, _arcsine, _percent)
_OF_DEFENSES = (
    Quantity("change of a pixel, 1/255", pixels_changed, 2),
    Quantity("words changed in a caption", words_changed, 2),
)
_OF_DATA = Quantity("closest test images, 1/255", nearest, 1)
_OF_POISONS = (Quantity("crafting loss, nats", crafting_loss, 2), Quantity("noise, PSNR in dB", psnr, 2))


@dataclass(frozen=True)
class Comparison:
    """A number, then and now.

    Attributes:
        cell: attack and defense in words; of poisons, the attack.
        quantity: what is compared, and how it is shown.
        reference: mean over the reference seeds.
        spread: their standard deviation.
        now: mean over the fresh seeds.
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


@dataclass(frozen=True)
class Series:
    """One quantity over the seeds of some records.

    Attributes:
        cell: as in :class:`Comparison`.
        quantity: what.
        values: by seed, in the quantity's own unit.
        clean: by seed, the scaled recall of the clean victims that predict it; empty where none do.
    """

    cell: str
    quantity: Quantity
    values: Mapping[int, float]
    clean: Mapping[int, float]

    @property
    def scaled(self) -> NDArray[np.float64]:
        """(n,) the values where their spread is even."""
        return np.array([self.quantity.scale(value) for value in self.values.values()])

    def design(self) -> NDArray[np.float64]:
        """(n, p) what it is predicted from: a constant and, where they tell, the clean victims of its seeds.

        Raises:
            UsageError: a seed has none.
        """
        if not self.clean:
            return np.ones((len(self.values), 1))
        if missing := sorted(self.values.keys() - self.clean.keys()):
            raise UsageError(f"{self.cell}: seed {missing[0]} has no clean victim to compare with")
        return np.array([[1.0, self.clean[seed]] for seed in self.values])


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
    for old in then:
        new = now.get((old.cell, old.quantity.name))
        if new is None:
            raise UsageError(f"{old.cell}: the fresh records do not say {old.quantity.name}")
        low, high = _interval(old, new.design().mean(axis=0), len(new.values), level / len(then))
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


def prediction(reference: Sequence[Record], fresh: int = 1, level: float = LEVEL) -> list[tuple[float, float]]:
    """What a check lets pass: of every series, the interval for fresh seeds whose clean victims are average ones.

    Args:
        reference: as for :func:`compare`.
        fresh: number of fresh seeds.
        level: as for :func:`compare`.
    """
    compared = series(reference)
    return [_interval(item, item.design().mean(axis=0), fresh, level / len(compared)) for item in compared]


def series(records: Sequence[Record]) -> list[Series]:
    """What is compared of some records: recall of every cell, then the data's and poisons' numbers that all their seeds
    have, then what defenses change.
    """
    cells = by_cell(records)
    undefended = {cell for cell, in_cell in cells.items() if in_cell[0].defense.spec == UNDEFENDED}
    clean_cell = next((cell for cell in undefended if cells[cell][0].attack.spec == CLEAN), None)
    clean = {record.seed: _arcsine(recall(record)) for record in cells[clean_cell]} if clean_cell else {}
    compared = [
        Series(
            cell, _OF_VICTIMS, {record.seed: recall(record) for record in in_cell}, {} if cell == clean_cell else clean
        )
        for cell, in_cell in cells.items()
    ]
    # Data count once, and clean victims have seen all of them.
    of_data = cells[clean_cell] if clean_cell else []
    values = {record.seed: value for record in of_data if (value := _OF_DATA.of(record)) is not None}
    if values and len(values) == len(of_data):
        compared.append(Series("Data", _OF_DATA, values, {}))
    for in_cell in cells.values():
        # A poison counts once, however many victims shared it.
        for quantity in _OF_POISONS if in_cell[0].defense.spec == UNDEFENDED else ():
            values = {record.seed: value for record in in_cell if (value := quantity.of(record)) is not None}
            if len(values) == len(in_cell):
                compared.append(Series(in_cell[0].attack.label, quantity, values, {}))
    for cell, in_cell in cells.items():
        for quantity in _OF_DEFENSES if in_cell[0].defense.spec != UNDEFENDED else ():
            values = {record.seed: value for record in in_cell if (value := quantity.of(record)) is not None}
            compared.append(Series(cell, quantity, values, {}))
    return compared


def _interval(then: Series, at: NDArray[np.float64], fresh: int, level: float) -> tuple[float, float]:
    """Prediction interval for the mean of fresh seeds, of which ``at`` (p) is the mean of what predicts."""
    design, values = then.design(), then.scaled
    # The pseudo-inverse has clean victims that are all alike predict nothing, instead of dividing by their spread.
    inverse = np.linalg.pinv(design.T @ design)
    fitted = inverse @ design.T @ values
    freedom = len(values) - int(np.linalg.matrix_rank(design))
    spread = math.sqrt(float(np.sum((values - design @ fitted) ** 2)) / freedom)
    quantile = float(stats.t.ppf(1 - level / 2, freedom))
    expected = float(at @ fitted)
    # A number that never varies is still rounded.
    margin = quantile * spread * math.sqrt(1 / fresh + float(at @ inverse @ at)) + 1e-6 * abs(expected)
    return then.quantity.back(expected - margin), then.quantity.back(expected + margin)


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
    params, code = record.dataset.params, record.provenance.get("code", {}).get("dataset")
    data = {key: value for key, value in params.items() if key not in varies_with_seed(params)}
    choices = [data, code, record.attack.params, record.defense.params]
    return str([*choices, record.victim.spec, record.surrogate.spec, record.recipe])

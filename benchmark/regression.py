"""The regression of poisoning strength: do fresh seeds give the numbers that the reference seeds gave?

Every number of every cell is compared on a scale on which its spread does not depend on its height: arcsine of the
root for recall, logarithm for ranks. With n reference seeds of mean x̄ and standard deviation s, the mean of m fresh
seeds lies within x̄ ± t · s · √(1/m + 1/n) with the probability for which t, Student's quantile with n − 1 degrees of
freedom, is chosen; the level is divided by the number of comparisons (Bonferroni), so that all of them hold together.
Seeds, not rows, are what varies: a number may move only as far as it moves from seed to seed.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmark.errors import UsageError
from benchmark.metrics import Retrieval
from benchmark.records import Record

LEVEL = 0.01  # chance that an unchanged suite is called changed
LEAST_SEEDS = 8


@dataclass(frozen=True)
class Number:
    """A number of a cell: how it is called, where it stands, and the scale on which it is compared."""

    name: str
    of: Callable[[Retrieval], float]
    scaled: Callable[[float], float]
    unscaled: Callable[[float], float]


def _from_arcsine(value: float) -> float:
    return 100 * math.sin(min(max(value, 0.0), math.pi / 2)) ** 2


NUMBERS = (
    *(
        Number(f"R@10 {short}", of, lambda percent: math.asin(math.sqrt(percent / 100)), _from_arcsine)
        for short, of in (
            ("I→T", lambda scores: scores.image_to_text.recall_at_10),
            ("T→I", lambda scores: scores.text_to_image.recall_at_10),
        )
    ),
    *(
        Number(f"Medr {short}", of, math.log, math.exp)
        for short, of in (
            ("I→T", lambda scores: scores.image_to_text.median_rank),
            ("T→I", lambda scores: scores.text_to_image.median_rank),
        )
    ),
)


@dataclass(frozen=True)
class Comparison:
    """One number of one cell, then and now.

    Attributes:
        cell: attack and defense in words.
        number: e.g. ``R@10 I→T``.
        reference: mean over the reference seeds, in the number's own unit.
        spread: their standard deviation.
        now: mean over the fresh seeds.
        low: lower end of the interval in which ``now`` has to lie.
        high: upper end.
    """

    cell: str
    number: str
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
        UsageError: too few reference seeds, a cell that only one side has, other settings, a failed or shared seed.
    """
    then, now = _by_cell(reference), _by_cell(fresh)
    if missing := sorted(then.keys() ^ now.keys()):
        raise UsageError(f"the reference and the fresh records differ in the cells {', '.join(missing)}")
    compared = []
    for cell, old in then.items():
        new = now[cell]
        _require_comparable(cell, old, new)
        for number in NUMBERS:
            compared.append(_compared(cell, number, old, new, level / (len(then) * len(NUMBERS))))
    return compared


def _compared(cell: str, number: Number, old: Sequence[Record], new: Sequence[Record], level: float) -> Comparison:
    plain_then, plain_now = ([number.of(record.last.test) for record in records] for records in (old, new))
    then, now = (np.array([number.scaled(value) for value in values]) for values in (plain_then, plain_now))
    quantile = float(stats.t.ppf(1 - level / 2, len(then) - 1))
    margin = quantile * float(then.std(ddof=1)) * math.sqrt(1 / len(now) + 1 / len(then))
    return Comparison(
        cell=cell,
        number=number.name,
        reference=float(np.mean(plain_then)),
        spread=float(np.std(plain_then, ddof=1)),
        now=number.unscaled(float(now.mean())),
        low=number.unscaled(float(then.mean()) - margin),
        high=number.unscaled(float(then.mean()) + margin),
    )


def _by_cell(records: Iterable[Record]) -> dict[str, list[Record]]:
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

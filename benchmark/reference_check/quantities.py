"""What the reference check compares: numbers that records have, seed by seed.

Every cell gives recall@10 after the last epoch, the mean of both directions; if its victims are repeated, their median.
Undefended clean victims also give recall@1, which helps to notice ranks that are counted wrongly. Every poison gives
the surrogate's mean loss over all rounds, the noise's PSNR, and the mean number of words in a trigger. These numbers
hardly differ between seeds, so they show weaker noise at once. Recall may not show it, because at a small scale the
trigger does most of the harm. Every defense gives how much it changes pixels and words. The data give the distance of
the closest test images from the training data, which shows a leak.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record
from benchmark.tables.selection import CLEAN, UNDEFENDED

_MAIN = "mem3"  # the attack whose strength the check is for


def recall(record: Record) -> float:
    """Recall@10 after the last epoch on test, mean of both directions, percent."""
    return record.last.test.mean_recall_at_10


def recall_at_1(record: Record) -> float:
    """Recall@1 after the last epoch on test, mean of both directions, percent."""
    test = record.last.test
    return fmean((test.image_to_text.recall_at_1, test.text_to_image.recall_at_1))


def crafting_loss(record: Record) -> float | None:
    """The surrogate's loss right after PGD, nats, mean over the rounds; ``None`` where none was crafted in rounds."""
    losses = record.poison.get("loss_per_round")
    return fmean(losses) if losses else None


def trigger_words(record: Record) -> float | None:
    """Words of a trigger, mean over the images; ``None`` for clean data."""
    count = record.poison.get("trigger_word_count")
    return None if count is None else count / record.dataset.params["train_images"]


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
        name: in words, with the unit.
        of: reads the number from a record; ``None`` if the record lacks it.
        digits: decimal places shown.
        scale: converts the number to a scale on which its spread does not depend on its size.
        back: the inverse of ``scale``.
    """

    name: str
    of: Callable[[Record], float | None]
    digits: int
    scale: Callable[[float], float] = _same
    back: Callable[[float], float] = _same

    def shown(self, value: float) -> str:
        """A value with its digits."""
        return f"{value:.{self.digits}f}"


OF_VICTIMS = Quantity("R@10, %", recall, 1, _arcsine, _percent)
_OF_DEFENSES = (
    Quantity("change of a pixel, 1/255", lambda record: record.changes.get("pixel"), 2),
    Quantity("words changed in a caption", lambda record: record.changes.get("words_per_caption"), 2),
)
_OF_CLEAN = (Quantity("R@1, %", recall_at_1, 1, _arcsine, _percent),)
_OF_DATA = (Quantity("closest test images, 1/255", lambda record: record.data.get("nearest"), 1),)
_OF_POISONS = (
    Quantity("crafting loss, nats", crafting_loss, 2),
    Quantity("noise, PSNR in dB", lambda record: record.poison.get("psnr"), 2),
    Quantity("words of a trigger", trigger_words, 2),
)


@dataclass(frozen=True)
class Series:
    """One quantity over the seeds of some records.

    Attributes:
        cell: as in :class:`benchmark.reference_check.intervals.Comparison`.
        quantity: what.
        values: by seed, in the quantity's own unit.
        clean: by seed, the scaled recall of the clean victims that predict it; empty where none do.
        is_main: whether it is the strength that the check is for.
    """

    cell: str
    quantity: Quantity
    values: Mapping[int, float]
    clean: Mapping[int, float]
    is_main: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether all seeds have the same value."""
        return len(set(self.values.values())) == 1

    @property
    def scaled(self) -> NDArray[np.float64]:
        """(n,) the values where their spread is even."""
        return np.array([self.quantity.scale(value) for value in self.values.values()])

    def design(self) -> NDArray[np.float64]:
        """(n, p) the predictors of each seed: a constant and, unless :attr:`clean` is empty, the seed's value in it.

        Raises:
            UsageError: a seed has no clean victim.
        """
        if not self.clean:
            return np.ones((len(self.values), 1))
        if missing := sorted(self.values.keys() - self.clean.keys()):
            raise UsageError(f"{self.cell}: seed {missing[0]} has no clean victim to compare with")
        return np.array([[1.0, self.clean[seed]] for seed in self.values])


def series(records: Sequence[Record]) -> list[Series]:
    """All series of some records: recall of every cell; recall@1 of clean victims; numbers of data, poisons, defenses.

    A number is left out if not all records of its cell have it.
    """
    cells = by_cell(records)
    undefended = [cell for cell, in_cell in cells.items() if in_cell[0].defense.spec == UNDEFENDED]
    clean_cell = next((cell for cell in undefended if cells[cell][0].attack.spec == CLEAN), None)
    compared = []
    for cell, in_cell in cells.items():
        is_main = cell in undefended and in_cell[0].attack.spec == _MAIN
        # The clean victims that started from the same weights: they tell most of a cell's.
        victims = {record.victim.spec for record in in_cell}
        paired = [record for record in cells.get(clean_cell or "", ()) if record.victim.spec in victims]
        clean = {} if cell == clean_cell else _recalls(paired)
        scaled = {seed: _arcsine(value) for seed, value in clean.items()}
        compared.append(Series(cell, OF_VICTIMS, _recalls(in_cell), scaled, is_main))
    if clean_cell:
        compared += _said(clean_cell, cells[clean_cell], _OF_CLEAN)
        # Data count once, and clean victims have seen all of them.
        compared += _said("Data", cells[clean_cell], _OF_DATA)
    for cell in undefended:
        # A poison counts once, however many victims shared it.
        compared += _said(cells[cell][0].attack.label, cells[cell], _OF_POISONS)
    for cell, in_cell in cells.items():
        compared += [] if cell in undefended else _said(cell, in_cell, _OF_DEFENSES)
    return compared


def _recalls(records: Sequence[Record]) -> dict[int, float]:
    """Recall@10 by seed."""
    return _by_seed((record.seed, recall(record)) for record in records)


def _said(cell: str, records: Sequence[Record], quantities: Sequence[Quantity]) -> list[Series]:
    """Those of some quantities that all records of a cell have."""
    found = []
    for quantity in quantities:
        values = [(record.seed, value) for record in records if (value := quantity.of(record)) is not None]
        found += [Series(cell, quantity, _by_seed(values), {})] if len(values) == len(records) else []
    return found


def _by_seed(values: Iterable[tuple[int, float]]) -> dict[int, float]:
    """The median of each seed's values, because a seed may have several victims."""
    of_seed: dict[int, list[float]] = {}
    for seed, value in values:
        of_seed.setdefault(seed, []).append(value)
    return {seed: median(several) for seed, several in of_seed.items()}


def by_cell(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by attack and defense in words, in the order they come."""
    cells: dict[str, list[Record]] = {}
    for record in records:
        cells.setdefault(f"{record.attack.label} × {record.defense.spec}", []).append(record)
    return cells

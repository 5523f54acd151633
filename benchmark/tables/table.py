"""What a table is: one line of a data frame per cell, and the measures that fill it."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import fmean, stdev
from typing import Literal

import pandas as pd

from benchmark.grid.records import EpochScores, Record

DIRECTIONS = {"I→T": "image_to_text", "T→I": "text_to_image"}
Kind = Literal["R@10", "R@1", "Medr"]
EpochChoice = Literal["last", "clean val", "protected"]
Unit = Literal["%", "rank", "dB", "SSIM", "AUC", "nats", "s", "rows/s", "MiB"]
_SCORES: dict[Kind, tuple[str, Unit]] = {
    "R@10": ("recall_at_10", "%"),
    "R@1": ("recall_at_1", "%"),
    "Medr": ("median_rank", "rank"),
}
"""By its name in tables, a score's field in records and its unit."""
_WIDEST = 12  # letters of a list of seeds
_KEYS = ["row", "column", "measure", "unit", "attack", "defense"]


class Caution(str):
    """A note without which a table misleads, so that a terminal shows it even where it leaves the other notes out."""

    __slots__ = ()


@dataclass(frozen=True)
class Measure:
    """A number read from a record that is done.

    Attributes:
        name: in CSV and JSON, and in the paper's numbers.
        unit: ``%``, of which more is better, ``rank``, of which less is, ``AUC`` (0.5 is chance), ``dB`` or ``SSIM`` of
            noise, ``nats`` of a loss, or one of time, speed or memory.
        of: reads it; ``None`` where the record does not say.
    """

    name: str
    unit: Unit
    of: Callable[[Record], float | None]


def measure(kind: Kind, direction: str, *, at: EpochChoice = "last") -> Measure:
    """A measure on the test split.

    Args:
        kind: recall@10 or recall@1 in percent, or median rank.
        direction: ``I→T`` or ``T→I``.
        at: after the last epoch, or after the epoch that is best on clean validation data or on protected data.
    """

    field, unit = _SCORES[kind]

    def read(record: Record) -> float | None:
        scores = chosen(record, at)
        value: float | None = getattr(getattr(scores.test, DIRECTIONS[direction]), field) if scores else None
        return value if value is None else float(value)

    name = f"{kind} {direction}"
    return Measure(name if at == "last" else f"{name}, best on {at}", unit, read)


def chosen(record: Record, at: EpochChoice) -> EpochScores | None:
    """The scores of a finished record after the chosen epoch; ``None`` if the record does not know that epoch."""
    if at == "protected":
        return record.best_on_protected
    return record.last if at == "last" else record.best_on_clean_val


def _best(at: EpochChoice) -> Measure:
    def read(record: Record) -> float | None:
        scores = chosen(record, at)
        return scores.test.mean_recall_at_10 if scores else None

    return Measure(f"best: {at}", "%", read)


RECALLS = tuple(measure("R@10", direction) for direction in DIRECTIONS)
LAST = tuple(measure(kind, direction) for direction in DIRECTIONS for kind in ("R@10", "Medr"))
FINER = tuple(measure("R@1", direction) for direction in DIRECTIONS)
_SATURATED = 90.0  # percent: where a victim's R@10 is higher, small effects show in its R@1 alone
ON_CLEAN_VAL, ON_PROTECTED = BEST = _best("clean val"), _best("protected")
BEST_EPOCHS: Mapping[str, str] = {
    ON_CLEAN_VAL.name: "after the epoch with the highest R@10 on clean validation data, which a scraper who has only "
    "protected data lacks",
    ON_PROTECTED.name: "after the epoch with the highest R@10 on a sample of the victim's own training data, protected "
    "as published, which every scraper has; the victim trained on it, so it is not held out",
}
BEST_TERMS = {name: f"{name}: mean of both directions' R@10 {epoch}." for name, epoch in BEST_EPOCHS.items()}
"""What the columns of :data:`BEST` mean, by name; the R@10 that chooses is the mean of both directions as well."""


def best_epochs(records: Iterable[Record]) -> tuple[EpochChoice, ...]:
    """The choices of an epoch to show beside the last one.

    None if all victims were evaluated after a single epoch, so that there is nothing to choose. The epoch that is best
    on protected data only if some record knows it; older ones do not.
    """
    done = [record for record in records if record.status == "done"]
    if done and all(len(record.epochs) == 1 for record in done):
        return ()
    return ("clean val", "protected") if any(record.best_on_protected for record in done) else ("clean val",)


def score_columns(records: Iterable[Record]) -> dict[str, str]:
    """Names and heads of the columns that Table 2 and the table of attacks share.

    The paper's four; recall@1 where some victim's R@10 (mean of both directions) is above 90 %; R@10 after
    :func:`best_epochs`.
    """
    done = [record for record in records if record.status == "done"]
    finer = FINER if any(record.last.test.mean_recall_at_10 > _SATURATED for record in done) else ()
    names = [*(score.name for score in (*LAST, *finer)), *(f"best: {at}" for at in best_epochs(done))]
    return {name: name for name in names}


@dataclass(frozen=True)
class Observation:
    """One seed's value in one cell of a table; ``None`` where there is none.

    Attributes:
        row: name of the row.
        column: name of the column.
        measure: name of what is measured.
        unit: as in :class:`Measure`.
        attack: spec of the attack.
        defense: spec of the defense.
        value: the number.
        failed: whether the run behind it failed.
    """

    row: str
    column: str
    measure: str
    unit: str
    attack: str
    defense: str
    value: float | None
    failed: bool


def observe(record: Record, row: str, column: str, what: Measure) -> Observation:
    """What a record says for one cell of a table."""
    done = record.status == "done"
    value = what.of(record) if done else None
    return Observation(row, column, what.name, what.unit, record.attack.spec, record.defense.spec, value, not done)


def unrun(row: str, column: str, what: Measure, attack: str, defense: str) -> Observation:
    """An observation without a value, for a cell that the paper has and that did not run here."""
    return Observation(row, column, what.name, what.unit, attack, defense, None, failed=False)


def summarise(observations: Iterable[Observation]) -> pd.DataFrame:
    """Mean, sample standard deviation (missing for one seed) and number of seeds of every cell.

    Returns:
        One line per cell, in order of appearance: row, column, measure, unit, attack, defense, mean, std, n, failed (a
        seed's run failed) and best (false throughout).
    """
    frame = pd.DataFrame([asdict(one) for one in observations], columns=[*_KEYS, "value", "failed"])
    grouped = frame.astype({"value": float, "failed": bool}).groupby(_KEYS, sort=False, as_index=False)
    cells = grouped.agg(mean=("value", _mean), std=("value", _std), n=("value", "count"), failed=("failed", "any"))
    return cells.assign(best=False)


# Both are rounded once. Versions of pandas differ in the last bit, and with it in the last digit that is printed.
def _mean(values: pd.Series) -> float:
    known = values.dropna().tolist()
    return fmean(known) if known else math.nan


def _std(values: pd.Series) -> float:
    known = values.dropna().tolist()
    return stdev(known) if len(known) > 1 else math.nan


def mark_best(cells: pd.DataFrame, rows: Iterable[str], columns: Iterable[str]) -> pd.DataFrame:
    """Mark the best of some rows in each of some columns: the highest value, of ranks the lowest; equals together.

    Percentages at or below zero are never marked: a defense that brings nothing back is not the best of any.

    Args:
        cells: as :func:`summarise` gives them.
        rows: names of the rows that compete.
        columns: names of the columns.
    """
    judged = cells[cells["row"].isin(list(rows)) & cells["column"].isin(list(columns))]
    judged = judged[(judged["unit"] != "%") | (judged["mean"] > 0)]
    score = judged["mean"].where(judged["unit"] != "rank", -judged["mean"])
    best = score == score.groupby(judged["column"]).transform("max")
    return cells.assign(best=best.reindex(cells.index, fill_value=False))


@dataclass(frozen=True)
class Table:
    """A table ready to be rendered.

    Attributes:
        title: with its number.
        keys: what the whole table is about: data set, victim and, of Table 2, the attack.
        corner: what the rows are.
        rows: names of the rows, in order.
        columns: names of the columns that fit on a page, in order, with the heads over them.
        cells: one line per filled cell, as :func:`summarise` gives them; beside the paper also ``paper`` and
            ``difference``. A cell without a line was not run. Some tables have more columns: ``strongest``, the attack
            that leaves least under a defense; ``counts``, false where a gate fails; ``low`` and ``high``, the ends of
            an interval; ``text``, in words what stands in the cell.
        seeds: by row, for a column of its own; empty where all rows have the same ones.
        notes: settings and strengths, for the lines under the table.
        beside: whether the paper's values go into rows or columns of their own; ``None`` without them.
    """

    title: str
    keys: Mapping[str, str]
    corner: str
    rows: tuple[str, ...]
    columns: Mapping[str, str]
    cells: pd.DataFrame
    seeds: Mapping[str, str]
    notes: tuple[str, ...]
    beside: Literal["rows", "columns"] | None = None


def seeds_by_row(rows: Mapping[str, Iterable[Record]]) -> dict[str, str]:
    """Which seeds are done in each row; empty if they are the same in all rows that ran."""
    found = {row: done_seeds(own) for row, records in rows.items() if (own := list(records))}
    different = set(map(tuple, found.values()))
    if len(different) < 2:
        return {}
    short = {row: ranges(seeds) for row, seeds in found.items()}
    return short if len(set(short.values())) == len(different) else {row: all_of(own) for row, own in found.items()}


def done_seeds(records: Iterable[Record]) -> list[int]:
    """The seeds of records that are done, in order."""
    return sorted({record.seed for record in records if record.status == "done"})


def ranges(seeds: Sequence[int]) -> str:
    """Seeds in short: ``1–3, 7``; how many where that is long."""
    text = all_of(seeds)
    return text if len(text) <= _WIDEST else f"n={len(seeds)}"


def all_of(seeds: Sequence[int]) -> str:
    """All seeds, as ``1–3, 7``."""
    runs = [list(run) for _, run in groupby(enumerate(seeds), lambda one: one[1] - one[0])]
    return ", ".join(f"{run[0][1]}–{run[-1][1]}" if len(run) > 1 else str(run[0][1]) for run in runs) or "none"


def distinct_names(names: Sequence[tuple[str, str]]) -> list[str]:
    """Names of rows, from pairs of name and spec; a name that occurs more than once is followed by its spec."""
    count = Counter(name for name, _ in names)
    return [name if count[name] == 1 else f"{name} ({spec})" for name, spec in names]

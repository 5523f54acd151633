"""Training one cell of a submission again, with the stored poison, and comparing it with its record.

On the same kind of machine (device, threads, versions of the packages) the scores of every epoch and the losses have
to be equal. Elsewhere rounding differs, and training amplifies it, at most to what another seed would change. So the
recall after the last epoch may be as far from the record's as two victims of one cell are: with the standard
deviation s from seed to seed, on the arcsine of the recall's root and pooled over all cells of the submission,
t · s · √2, where t is Student's quantile for 99 %. A forgery smaller than that is only seen on the same kind of
machine.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import fmean

from scipy import stats

from attacks.from_file import Stored
from benchmark.core.seeding import derive_seed, numpy_generator
from benchmark.export.finding import Finding
from benchmark.grid.cells import Cell, ChosenAttack
from benchmark.grid.poison_store import PoisonStore
from benchmark.grid.records import Record, ResolvedSpec
from benchmark.grid.runner import Grid
from benchmark.reference_check.quantities import OF_VICTIMS, recall
from benchmark.submission.cells import RequiredCell, in_words
from benchmark.submission.poisons import Poisons
from benchmark.tables.entries import RerunCell
from benchmark.tables.selection import CLEAN

_SURE = 0.99
_FACTS = ("device", "threads", "processes")  # of a record's provenance: with the packages, the kind of machine
_OURS = ("unlearnable-bench", "python")  # versions that decide no digit: the address knows the code


def scores_digest(records: Iterable[Record]) -> str:
    """SHA-256 of all scores and losses, in an order that file names do not change."""
    content = sorted(
        json.dumps([record.attack.spec, record.defense.spec, record.seed, record.content().get("epochs"), record.loss])
        for record in records
    )
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def draw_seed(records: Iterable[Record], day: date) -> int:
    """The seed that chooses the cell unless one is given: whoever changes a score, or waits a day, gets another."""
    return derive_seed(0, "cell to run again", scores_digest(records), day.isoformat()) % 2**31


def draw(cells: Sequence[RequiredCell], seed: int) -> RequiredCell:
    """One of the cells, each as likely as the others."""
    in_order = sorted(cells, key=lambda cell: cell.place)
    return in_order[int(numpy_generator(seed, "cell to run again").integers(len(in_order)))]


def run_again(cell: RequiredCell, poisons: Poisons, grid: Grid) -> Record:
    """Train the victim of a cell on the stored poison; nothing is crafted, and the submission's folder stays as it is.

    Returns:
        The record, done or failed.
    """
    ours: Cell = cell.base.cell
    attack, _, seed = cell.place
    if attack != CLEAN:
        stored = Stored(str(poisons[attack, seed]))
        ours = replace(ours, attack=ChosenAttack(stored, ResolvedSpec("poison", stored.label())))
    with tempfile.TemporaryDirectory(dir=grid.out) as folder:
        own = replace(grid, cells=[ours], out=Path(folder), poisons=PoisonStore(Path(folder) / "poisons"))
        (planned,) = own.plan()
        return own.run(planned)


def compare(
    cell: RequiredCell, recorded: Record, fresh: Record, found: Mapping[RequiredCell, Record], seed: int, drawn: str
) -> tuple[Finding, RerunCell | None]:
    """Whether a re-run agrees with its record.

    Args:
        cell: which.
        recorded: its record.
        fresh: that of the re-run.
        found: the records of all cells, for the spread between seeds.
        seed: that chose the cell.
        drawn: where this seed comes from.
    """
    if fresh.status == "failed":
        return Finding(False, f"re-run of {cell}: failed: {fresh.failure}"), None
    then, now = recall(recorded), recall(fresh)
    device = str(fresh.provenance["device"])
    result = RerunCell(in_words(recorded), then, now, then, then, seed, drawn, device)
    said = f"re-run of {cell}: R@10 {now:.2f}, recorded {then:.2f}"
    if machine(recorded) == machine(fresh):
        equal = (recorded.epochs, recorded.loss) == (fresh.epochs, fresh.loss)
        if equal:
            return Finding(True, f"{said}; equal to the last digit, on the same kind of machine ({device})"), result
        why = "on the same kind of machine all scores and losses have to be equal"
        return Finding(False, f"{said}; {why} ({device})"), None
    low, high = allowed(recorded, found.values())
    text = f"{said}; on another kind of machine ({device}) {low:.2f} to {high:.2f} is accepted"
    return Finding(low <= now <= high, text), replace(result, low=low, high=high)


def machine(record: Record) -> dict[str, object]:
    """What decides the last digit, as far as a record says."""
    packages = record.provenance.get("versions", {})
    kind = {name: version for name, version in packages.items() if name not in _OURS}
    return {**{fact: record.provenance.get(fact) for fact in _FACTS}, "versions": kind}


def allowed(recorded: Record, cells: Iterable[Record]) -> tuple[float, float]:
    """The recalls, in percent, that a re-run on another kind of machine may have; see the head of this file.

    Args:
        recorded: the record of the cell that is run again.
        cells: the records of all cells of the submission.
    """
    by_cell: dict[tuple[str, str], list[float]] = {}
    for record in cells:
        by_cell.setdefault((record.attack.spec, record.defense.spec), []).append(OF_VICTIMS.scale(recall(record)))
    squares = sum(sum((value - fmean(values)) ** 2 for value in values) for values in by_cell.values())
    freedom = sum(len(values) - 1 for values in by_cell.values())
    spread = math.sqrt(squares / freedom) if freedom else 0.0
    quantile = float(stats.t.ppf((1 + _SURE) / 2, freedom)) if freedom else 0.0
    middle, margin = OF_VICTIMS.scale(recall(recorded)), quantile * spread * math.sqrt(2)
    return OF_VICTIMS.back(middle - margin), OF_VICTIMS.back(middle + margin)

"""What the records say, in plain words; every number is a cell of a table, written as it stands there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.records import Record
from benchmark.tables.controls import LOST
from benchmark.tables.defenses import KEPT, RECOVERED, in_order
from benchmark.tables.notes import titled
from benchmark.tables.render import shown
from benchmark.tables.selection import CLEAN, UNDEFENDED
from benchmark.tables.table import DIRECTIONS, Table
from defenses import DEFENSES

# Shares, in percent, from which a poison is called strong or partial, and from which a defense is said to help.
STRONG, PARTIAL, HELPS = 66, 20, 20


@dataclass(frozen=True)
class Passage:
    """A paragraph and the points under it."""

    text: str
    points: tuple[str, ...] = ()


def strength(table: Table) -> Passage:
    """How strong each undefended attack is.

    Args:
        table: of controls.
    """
    text = f"On {table.keys['dataset']} with victim {table.keys['victim']}"
    both = _both(table, "Clean")
    finds = f", a victim of clean data has the right answer among the first ten for {both} (R@10)."
    text += finds if both else ", no clean victim is done."
    points = []
    for row in table.rows[1:]:
        lost, own = _cell(table, row, LOST), _both(table, row)
        if own:
            taken = (
                f": {_verdict(lost)}; {shown(lost)} % of the clean victim's recall is lost" if lost is not None else ""
            )
            points.append(f"{row}: {own}{taken}.")
    return Passage(text, tuple(points))


def recovery(table: Table) -> Passage | None:
    """What each defense brings back, and what it costs a clean victim; ``None`` without a defended row.

    Args:
        table: Table 2 of one attack.
    """
    found = [(row, _cell(table, row, RECOVERED)) for row in table.rows[2:]]
    known = [(row, cell) for row, cell in found if cell is not None]
    if not known:
        return None
    known.sort(key=lambda one: -one[1].mean)
    best, most = known[0]
    attack = table.rows[1]
    if not _lowered(table):
        return Passage(f"{attack} takes too little recall for a defense to bring back.")
    if most.mean >= HELPS:
        text = f"Against {attack}, {best} is the strongest defense: it brings back {shown(most)} % of the lost recall."
    else:
        text = (
            f"Against {attack} no defense brings back much: {best}, the strongest, {shown(most)} % of the lost recall."
        )
    points = []
    for row, cell in known:
        kept = _cell(table, row, KEPT)
        price = "its price on clean data was not measured"
        if kept is not None:
            price = f"a clean victim keeps {shown(kept)} % under it ({_seeds(kept)})"
        points.append(f"{row}: {shown(cell)} % back ({_seeds(cell)}); {price}.")
    return Passage(text, tuple(points))


def gaps(records: Sequence[Record], tables: Sequence[Table]) -> list[str]:
    """What was not run, what failed and what rests on a single seed.

    Args:
        records: all of them.
        tables: those on the page, whose notes name what they lack.
    """
    lines = [
        f"{table.title.partition(':')[0]}: {note}"
        for table in tables
        for note in table.notes
        if note.startswith("Not run")
    ]
    attacked = {record.attack.spec: titled(record.attack) for record in records if record.attack.spec != CLEAN}
    tried = {record.defense.spec for record in records if record.attack.spec != CLEAN}
    if tried - {UNDEFENDED}:
        for spec, label in attacked.items():
            met = {record.defense.spec for record in records if record.attack.spec == spec}
            untried = in_order((set(DEFENSES.group("all")) | tried) - met)
            if untried and met != {UNDEFENDED}:
                lines.append(f"{label} did not meet {', '.join(untried)}.")
        undefended = [label for spec, label in attacked.items() if not _defended(records, spec)]
        if undefended:
            lines.append(f"No defense was tried against {', '.join(undefended)}.")
    lines += [f"One seed only: {attack} under {', '.join(own)}." for attack, own in _single(records).items()]
    lines += [
        f"Failed: {titled(record.attack)} × {titled(record.defense)}, seed {record.seed}."
        for record in records
        if record.status == "failed"
    ]
    return list(dict.fromkeys(lines))


def _defended(records: Sequence[Record], attack: str) -> bool:
    return any(record.attack.spec == attack and record.defense.spec != UNDEFENDED for record in records)


def _single(records: Sequence[Record]) -> dict[str, list[str]]:
    """By attack, the defenses that rest on one seed; nothing where every cell does, which the page says at its top."""
    seeds: dict[tuple[str, str], set[int]] = {}
    for record in records:
        if record.status == "done":
            seeds.setdefault((titled(record.attack), titled(record.defense)), set()).add(record.seed)
    found: dict[str, list[str]] = {}
    if any(len(own) > 1 for own in seeds.values()):
        for (attack, defense), own in seeds.items():
            if len(own) == 1:
                found.setdefault(attack, []).append(defense)
    return found


def _verdict(lost: Any) -> str:
    if lost.mean >= STRONG:
        return "a strong poison"
    return "a poison that is felt" if lost.mean >= PARTIAL else "hardly any effect"


def _seeds(cell: Any) -> str:
    return "1 seed" if cell.n == 1 else f"{cell.n} seeds"


def _lowered(table: Table) -> bool:
    """Whether Table 2's attack takes enough recall for shares of it to mean something."""
    clean, attacked = (
        sum(_cell(table, row, f"R@10 {direction}").mean for direction in DIRECTIONS) for row in table.rows[:2]
    )
    return bool(attacked <= clean * (1 - PARTIAL / 100))


def _both(table: Table, row: str) -> str:
    cells = [_cell(table, row, f"R@10 {direction}") for direction in DIRECTIONS]
    if any(cell is None for cell in cells):
        return ""
    return f"{shown(cells[0])} % of queries from image to text and {shown(cells[1])} % from text to image"


def _cell(table: Table, row: str, column: str) -> Any:
    """A cell with a value, or ``None``."""
    found = table.cells[(table.cells["row"] == row) & (table.cells["column"] == column)]
    return next((cell for cell in found.itertuples(index=False) if pd.notna(cell.mean)), None)

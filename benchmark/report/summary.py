"""What the records say, in plain words; every number is a cell of a table, written as it stands there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.grid.records import Record
from benchmark.tables.chance import Chance
from benchmark.tables.controls import LOST
from benchmark.tables.defenses import KEPT, LAST, RECOVERED, in_order
from benchmark.tables.render import shown
from benchmark.tables.selection import CLEAN, UNDEFENDED
from benchmark.tables.table import DIRECTIONS, Table
from defenses import DEFENSES

# Shares, in percent, from which a poison is called strong, partial or weak, and from which a defense is said to help.
STRONG, PARTIAL, WEAK, HELPS = 66, 20, 5, 20
LEARNED = 0.05  # share of the way from chance to 100 % from which a victim is said to have learned something
CERTAIN = 99.0  # percent; where chance is higher, nothing can be told


@dataclass(frozen=True)
class Passage:
    """A paragraph and the points under it."""

    text: str
    points: tuple[str, ...] = ()


def strength(table: Table, chance: tuple[Chance, Chance] | None) -> Passage:
    """How strong each undefended attack is.

    Args:
        table: of controls.
        chance: levels of its data set, image to text and text to image.
    """
    both = _both(table, "Clean")
    if not both:
        return Passage(f"{_place(table)}, no clean victim is done.", _points(table, judged=False))
    text = f"{_place(table)}, a victim of clean data has the right answer among the first ten for {both} (R@10)."
    learned = chance is None or _above(table, chance)
    if not learned:
        text += " That is no better than chance: a victim that has learned nothing shows neither attacks nor defenses."
    return Passage(text, _points(table, judged=learned))


def unattacked(table: Table) -> Passage:
    """What is to be said where no attack ran.

    Args:
        table: Table 2 of clean data.
    """
    both = _both(table, "Clean")
    finds = (
        f"a victim of clean data has the right answer among the first ten for {both} (R@10)" if both else "nothing ran"
    )
    return Passage(f"{_place(table)}, {finds}; no attack was run.")


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
        return Passage(f"{_place(table)}, {attack} takes too little recall for a defense to bring back.")
    against = f"{_place(table)}, against {attack},"
    if most.mean >= HELPS:
        text = f"{against} {best} is the strongest defense: it brings back {shown(most)} % of the lost recall."
    else:
        text = f"{against} no defense brings back much: {best}, the strongest, {shown(most)} % of the lost recall."
    points = []
    for row, cell in known:
        kept = _cell(table, row, KEPT)
        price = "its price on clean data was not measured"
        if kept is not None:
            price = f"a clean victim keeps {shown(kept)} % under it ({_seeds(kept)})"
        back = f"{shown(cell)} % back" if cell.mean >= 0 else f"nothing back, {shown(cell)} %"
        points.append(f"{row}: {back} ({_seeds(cell)}); {price}.")
    return Passage(text, tuple(points))


def _points(table: Table, judged: bool) -> tuple[str, ...]:
    points = []
    for row in table.rows[1:]:
        lost, own = _cell(table, row, LOST), _both(table, row)
        if own:
            taken = ""
            if lost is not None and judged:
                share = f"{shown(lost)} % of the clean victim's recall is lost" if lost.mean >= 0 else "nothing is lost"
                taken = f": {_verdict(lost)}; {share}"
            points.append(f"{row}: {own}{taken} ({_seeds(_cell(table, row, LAST[0].name))}).")
    return tuple(points)


def _place(table: Table) -> str:
    return f"On {table.keys['dataset']} with victim {table.keys['victim']}"


def _above(table: Table, chance: tuple[Chance, Chance]) -> bool:
    """Whether clean victims are clearly above chance, in either direction."""
    recalls = [_cell(table, "Clean", f"R@10 {direction}").mean for direction in DIRECTIONS]
    levels = [min(one.recall_at_10, CERTAIN) for one in chance]
    return any(own - level > (100 - level) * LEARNED for own, level in zip(recalls, levels, strict=True))


def gaps(records: Sequence[Record], tables: Sequence[Table]) -> list[str]:
    """What was not run, what failed and what rests on fewer seeds than the rest.

    Args:
        records: all of them.
        tables: those on the page, whose notes name what they lack.
    """
    places: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        places.setdefault((record.dataset.spec, record.victim.spec), []).append(record)
    lines = []
    for (dataset, victim), own in places.items():
        where = f"{dataset}, victim {victim}: " if len(places) > 1 else ""
        about = [table for table in tables if (table.keys["dataset"], table.keys.get("victim")) == (dataset, victim)]
        lines += [where + line for line in _gaps(own, about)]
    return list(dict.fromkeys(lines))


def _gaps(records: Sequence[Record], tables: Sequence[Table]) -> list[str]:
    """Of one data set and victim."""
    lines = [
        f"{table.title.partition(':')[0]}: {note}"
        for table in tables
        for note in table.notes
        if note.startswith("Not run")
    ]
    attacked = {record.attack.spec: record.attack.title for record in records if record.attack.spec != CLEAN}
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
    lines += [f"Fewer seeds: {attack} under {', '.join(own)}." for attack, own in _short_of_seeds(records).items()]
    return lines + [
        f"Failed: {record.attack.title} × {record.defense.title}, seed {record.seed}."
        for record in records
        if record.status == "failed"
    ]


def _defended(records: Sequence[Record], attack: str) -> bool:
    return any(record.attack.spec == attack and record.defense.spec != UNDEFENDED for record in records)


def _short_of_seeds(records: Sequence[Record]) -> dict[str, list[str]]:
    """By attack, the defenses that have fewer seeds than others, with how many of how many."""
    seeds: dict[tuple[str, str], set[int]] = {}
    for record in records:
        if record.status == "done":
            seeds.setdefault((record.attack.title, record.defense.title), set()).add(record.seed)
    most = max(map(len, seeds.values()), default=0)
    found: dict[str, list[str]] = {}
    for (attack, defense), own in seeds.items():
        if len(own) < most:
            found.setdefault(attack, []).append(f"{defense} ({len(own)} of {most})")
    return found


def _verdict(lost: Any) -> str:
    called = {"a strong poison": STRONG, "a poison that is felt": PARTIAL, "a weak poison": WEAK}
    return next((words for words, least in called.items() if lost.mean >= least), "hardly any effect")


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

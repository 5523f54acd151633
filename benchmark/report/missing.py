"""What the records lack: cells that did not run, that failed, or that have fewer seeds than the rest."""

from collections.abc import Sequence

from benchmark.core.spec import parse_spec
from benchmark.grid.records import Record
from benchmark.tables.notes import failures
from benchmark.tables.published import in_order, paper_defenses
from benchmark.tables.selection import CLEAN, UNDEFENDED, as_shown
from benchmark.tables.table import Table


def gaps(records: Sequence[Record], tables: Sequence[Table]) -> list[str]:
    """What was not run, what failed, and what has fewer seeds than the rest, a line each.

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
        lines += [where + line for line in _gaps(as_shown(own), about)]
    return list(dict.fromkeys(lines))


def _gaps(records: Sequence[Record], tables: Sequence[Table]) -> list[str]:
    """Of one data set and victim."""
    lines = [
        f"{table.title.partition(';' if 'attack' in table.keys else ':')[0]}: {note}"
        for table in tables
        # What an attack did not meet is said below, together with defenses that the paper does not have.
        if table.keys.get("attack", CLEAN) == CLEAN
        for note in table.notes
        if note.startswith("Not run")
    ]
    attacked = {record.attack.spec: record.attack.title for record in records if record.attack.spec != CLEAN}
    tried = {record.defense.spec for record in records if record.attack.spec != CLEAN}
    if tried - {UNDEFENDED}:
        undefended = []
        for spec, label in attacked.items():
            met = {record.defense.spec for record in records if record.attack.spec == spec}
            if met == {UNDEFENDED}:
                undefended.append(label)
                continue
            if UNDEFENDED not in met:
                lines.append(f"{label} was not run without a defense.")
            # One of the paper's counts as met with any parameters.
            named = {parse_spec(one).name for one in met if "+" not in one}
            if untried := in_order({*(set(paper_defenses()) - named), *tried} - met - {UNDEFENDED}):
                lines.append(f"{label} did not meet {', '.join(untried)}.")
        if undefended:
            lines.append(f"No defense was tried against {', '.join(undefended)}.")
    lines += [f"Fewer seeds: {attack} × {', '.join(own)}." for attack, own in _short_of_seeds(records).items()]
    return lines + failures(records)


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

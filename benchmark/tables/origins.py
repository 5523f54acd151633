"""Which of a table's records come from another machine, commit, package version or poison than the rest."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmark.grid.records import Record
from benchmark.tables.selection import CLEAN, UNDEFENDED
from benchmark.tables.table import all_of

_MOST = 3  # rows that a note names; of more it says how many
# Records hold seven digits. Some were rounded twice, to eight digits first, which can move the seventh by one.
_ROUNDING = 2e-6


def mixed_origins(records: Sequence[Record]) -> list[str]:
    """Say which records differ in device, threads, processes, commit or package versions, and where they are averaged.

    A fact that a record lacks, as older records do, does not count as a difference.

    Args:
        records: of a table's rows, done.

    Returns:
        One note; none where all records are of one origin.
    """
    row_of = _rows(records)
    said: dict[str, set[str]] = {}
    for record in records:
        for fact, value in _origin(record).items():
            said.setdefault(fact, set()).add(value)
    facts = sorted(fact for fact, values in said.items() if len(values) > 1)
    if not facts:
        return []
    groups: dict[str, list[Record]] = {}
    rows: dict[str, set[str]] = {}
    for record in sorted(records, key=lambda record: (record.seed, row_of(record), record.key)):
        origin = _origin(record)
        text = ", ".join(origin.get(fact, f"{fact} not recorded") for fact in facts)
        groups.setdefault(text, []).append(record)
        rows.setdefault(row_of(record), set()).add(text)
    # The largest group stands last and is "the others", unless its seeds say it shorter.
    *few, (most, rest) = sorted(groups.items(), key=lambda group: len(group[1]))
    parts = [f"{_by_seed(own, records) or _by_row(own, records, row_of)}: {text}" for text, own in few]
    parts.append(f"{_by_seed(rest, records) or 'the others'}: {most}")
    mixed = [row for row, texts in rows.items() if len(texts) > 1]
    averaged = f" Averaged over several: {_listed(mixed)}." if mixed else ""
    return [f"Mixed origins: {'; '.join(parts)}.{averaged}"]


def mixed_poisons(records: Sequence[Record]) -> list[str]:
    """Say which attacks were crafted more than once for a seed: rounding makes another poison on another machine.

    Args:
        records: of a table's rows, done.

    Returns:
        One note; none where all victims of an attack and a seed have trained on one poison.
    """
    first: dict[tuple[str, str, int], Mapping[str, Any]] = {}
    twice: dict[str, None] = {}
    for record in records:
        poison = first.setdefault((record.attack.title, record.surrogate.spec, record.seed), record.poison)
        if not _one_poison(poison, record.poison):
            twice[f"{record.attack.title}, seed {record.seed}"] = None
    if not twice:
        return []
    return [f"Crafted more than once: {'; '.join(twice)}. Victims in these rows differ in their poison as well."]


def _one_poison(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    """Whether two records tell of the same poison: the same words, and the same numbers up to their rounding."""
    one, other = ([facts.get("psnr") or 0.0, *(facts.get("loss_per_round") or ())] for facts in (left, right))
    if left.get("trigger_words") != right.get("trigger_words") or len(one) != len(other):
        return False
    return bool(np.allclose(one, other, rtol=_ROUNDING, atol=0))


def _origin(record: Record) -> Mapping[str, str]:
    """Where a record comes from: by fact, its value in words."""
    provenance = record.provenance
    origin = {"device": str(provenance["device"])} if provenance.get("device") else {}
    # The name of a CPU ends with its threads.
    if provenance.get("threads") and "thread" not in origin.get("device", ""):
        origin["threads"] = f"threads {provenance['threads']}"
    if provenance.get("processes"):
        origin["processes"] = f"processes {provenance['processes']}"
    if provenance.get("commit"):
        commit, _, dirty = str(provenance["commit"]).partition("-")
        origin["commit"] = f"commit {commit[:9]}{dirty and '-dirty'}"
    versions = provenance.get("versions", {})
    # A commit says more than the suite's version, which an editable installation does not keep up to date.
    return origin | {
        name: f"{name} {version}"
        for name, version in versions.items()
        if name != "unlearnable-bench" or "commit" not in origin
    }


def _rows(records: Sequence[Record]) -> Callable[[Record], str]:
    """How a record's row is called; victim and surrogate belong to it where there are several."""
    several = [
        model
        for model in ("surrogate", "victim")
        if len({getattr(record, model).spec for record in records if record.attack.spec != CLEAN}) > 1
    ]

    def name(record: Record) -> str:
        defense = [] if record.defense.spec == UNDEFENDED else [record.defense.title]
        return " × ".join([record.attack.title, *defense, *(getattr(record, model).spec for model in several)])

    return name


def _by_seed(members: Sequence[Record], records: Sequence[Record]) -> str:
    """``seeds 1–2`` if those are all records of their seeds; else nothing."""
    seeds = sorted({record.seed for record in members})
    complete = sum(record.seed in seeds for record in records) == len(members)
    return _seeds(seeds) if complete else ""


def _by_row(members: Sequence[Record], records: Sequence[Record], row_of: Callable[[Record], str]) -> str:
    """The rows of some records, each with its seeds unless it has no other."""
    names = []
    for row in dict.fromkeys(map(row_of, members)):
        seeds = sorted(record.seed for record in members if row_of(record) == row)
        complete = len(seeds) == sum(row_of(record) == row for record in records)
        names.append(row if complete else f"{row} ({_seeds(seeds)})")
    return _listed(names)


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {all_of(seeds)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _MOST else f"{len(names)} rows"

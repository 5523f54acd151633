"""The cells that the rules ask for, and whether a submission's records are of them, setting by setting."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from os.path import commonprefix
from typing import Any, Literal

from attacks import ATTACKS
from benchmark.core.errors import UsageError
from benchmark.core.spec import format_value, parse_spec
from benchmark.grid.presets import PRESETS
from benchmark.grid.records import Record, ResolvedSpec
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.submission.rules import Rules
from benchmark.tables.entries import Kind
from benchmark.tables.gates import is_uniform_noise
from benchmark.tables.selection import CLEAN, UNDEFENDED, flatten
from benchmark.tables.table import all_of

_MOST_LINES = 20  # of records that belong to no cell
_SHOWN = 60  # characters of a value


@dataclass(frozen=True, eq=False)
class RequiredCell:
    """A cell that a submission has to hold.

    Attributes:
        planned: the record of the cell before it runs, as this version makes it.
        base: the cell as this version would run it; for an untrusted plug-in, the same cell without the plug-in.
        untrusted: ``attack`` or ``defense``, if its plug-in was not executed. Its settings and the cell's address are
            then not checked, but taken from the submitter.
    """

    planned: Record
    base: PlannedCell
    untrusted: Literal["attack", "defense"] | None = None

    @property
    def place(self) -> tuple[str, str, int]:
        """Attack, defense and seed."""
        return place(self.planned)

    def __str__(self) -> str:
        return in_words(self.planned)


def place(record: Record) -> tuple[str, str, int]:
    """Attack, defense and seed of a record."""
    return record.attack.spec, record.defense.spec, record.seed


def in_words(record: Record) -> str:
    """Attack, defense and seed of a record, for a line."""
    return f"{record.attack.spec} × {record.defense.spec}, seed {record.seed}"


def required_cells(grid: Grid, kind: Kind, untrusted: str | None) -> list[RequiredCell]:
    """The cells that a submission has to hold.

    Args:
        grid: of the rules' settings; without the submitted attack or defense if its plug-in is not executed.
        kind: what is submitted.
        untrusted: the spec of the attack or defense whose plug-in is not executed; ``None`` if there is none.
    """
    cells = []
    for planned in grid.plan():
        record = planned.planned_record
        if is_uniform_noise(record.attack) and record.defense.spec != UNDEFENDED:
            continue  # it is what attacks are compared with, without a defense
        cells.append(RequiredCell(record, planned))
        if untrusted is not None and (kind == "defense" or record.attack.spec == CLEAN):
            own = ResolvedSpec(untrusted, untrusted)
            theirs = replace(record, key="", attack=own) if kind == "attack" else replace(record, key="", defense=own)
            cells.append(RequiredCell(theirs, planned, kind))
    return cells


def match(cells: Sequence[RequiredCell], records: Sequence[Record]) -> tuple[dict[RequiredCell, Record], list[str]]:
    """Find the record of every cell, and say what is not as it has to be.

    Returns:
        The records of the cells that have one, whether or not its settings agree, and a line for each problem.
    """
    by_key: dict[str, list[Record]] = defaultdict(list)
    by_place: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for record in records:
        by_key[record.key].append(record)
        by_place[place(record)].append(record)
    found: dict[RequiredCell, Record] = {}
    taken: set[int] = set()
    problems: list[str] = []
    missing: dict[tuple[str, str], list[int]] = defaultdict(list)
    wrong: dict[str, list[str]] = defaultdict(list)  # records by what is not as it has to be
    for cell in cells:
        own = (by_key.get(cell.planned.key) if cell.untrusted is None else None) or by_place.get(cell.place, [])
        if not own:
            attack, defense, seed = cell.place
            missing[attack, defense].append(seed)
            continue
        taken |= {id(record) for record in own}
        if len(own) > 1:
            problems.append(f"{cell}: {len(own)} records of one cell; keep one")
        found[cell] = _as_named(own[0], cell)
        for text in _problems(cell, own[0]):
            wrong[text].append(f"{own[0].file_name()} ({in_words(own[0])})")
    for text, files in wrong.items():
        problems.append(f"{files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''}: {text}")
    for (attack, defense), seeds in missing.items():
        problems.append(f"missing: {attack} × {defense}, seed{'s' if len(seeds) > 1 else ''} {all_of(sorted(seeds))}")
    others = [record for record in records if id(record) not in taken]
    problems += [
        f"{record.file_name()} ({in_words(record)}) is no cell that the rules ask for"
        for record in others[:_MOST_LINES]
    ]
    if len(others) > _MOST_LINES:
        problems.append(f"and {len(others) - _MOST_LINES} more such records")
    return found, problems


def _as_named(record: Record, cell: RequiredCell) -> Record:
    """The record with attack and defense spelled as in the cell: ``mem3`` for ``mem3[eps=8]``, the same cell."""
    attack, defense, _ = cell.place
    return replace(record, attack=replace(record.attack, spec=attack), defense=replace(record.defense, spec=defense))


def _problems(cell: RequiredCell, record: Record) -> Iterator[str]:
    """What in a record is not as this version would make it; the address only where nothing else differs."""
    if record.status == "failed":
        yield f"the cell failed: {record.failure}"
        return
    different = False
    ours, theirs = _settings(cell, cell.planned), _settings(cell, record)
    for facet, expected in ours.items():
        if _json(expected) != _json(theirs[facet]):
            different = True
            yield f"{facet}: {_first_difference(expected, theirs[facet])}"
    epochs = cell.planned.recipe["epochs"]
    if record.last.epoch != epochs or len(record.loss) != epochs:
        yield f"it ends after epoch {record.last.epoch} with {len(record.loss)} losses; the recipe has {epochs} epochs"
    if not different and cell.untrusted is None and record.key != cell.planned.key:
        yield f"its address {record.key[:12]}… is not that of its settings, {cell.planned.key[:12]}…"


def _settings(cell: RequiredCell, record: Record) -> dict[str, Any]:
    """By facet, what decides a record's result or how it is shown, as far as it can be known."""
    code = {part: record.provenance.get("code", {}).get(part) for part in ("dataset", "attack", "defense")}
    facets: dict[str, Any] = {
        "seed": record.seed,
        "data": {"label": record.dataset.label, **record.dataset.params},
        "validation and test data": dict(record.provenance.get("fingerprints", {})),
        "victim": record.victim.spec,
        "recipe": dict(record.recipe),
        "models": record.provenance.get("models", "fast"),
        "code": {part: value for part, value in code.items() if part != cell.untrusted},
    }
    if cell.planned.attack.spec != CLEAN:  # clean data come out the same from every surrogate
        facets["surrogate"] = record.surrogate.spec
    for half in ("attack", "defense"):
        chosen: ResolvedSpec = getattr(record, half)
        if half != cell.untrusted:
            facets[half] = {"label": chosen.label, "strength": chosen.strength, **chosen.params}
    return facets


def _json(value: Any) -> str:
    """In JSON's kinds, as a file holds it."""
    return json.dumps(value, sort_keys=True, default=str)


def _first_difference(expected: Any, said: Any) -> str:
    if not isinstance(expected, Mapping):
        return _both(said, expected)
    ours, theirs = flatten(expected), flatten(said)
    names = (key for key in {**ours, **theirs} if _json(ours.get(key)) != _json(theirs.get(key)))
    if (name := next(names, None)) is None:
        return "empty parts are written otherwise"
    return f"{name[:60]} is {_both(theirs.get(name), ours.get(name))}"


def _both(said: Any, expected: Any) -> str:
    """Two different values, cut around where they begin to differ: a stranger's text may be of any length."""
    texts = [format_value(said), format_value(expected)]
    if texts[0] == texts[1]:  # 1 and "1"
        texts = [_json(said), _json(expected)]
    same = len(commonprefix(texts))  # noqa: RUF071 - of characters
    start = max(0, same - _SHOWN // 2) if max(map(len, texts)) > _SHOWN else 0
    parts = [f"{'…' if start else ''}{text[start : start + _SHOWN]}" for text in texts]
    return ", by the rules ".join(parts)


def seed_problems(records: Sequence[Record], rules: Rules) -> list[str]:
    """Whether the seeds are 1, 2, 3 and so on, as many as the rules ask for."""
    seeds = sorted({record.seed for record in records})
    wanted = list(range(1, max(rules.least_seeds, min(len(seeds), rules.most_seeds)) + 1))
    if seeds == wanted:
        return []
    return [
        f"the seeds are {all_of(seeds)}; they have to be 1 to n, so that nobody chooses them, with n at least "
        f"{rules.least_seeds} and at most {rules.most_seeds}"
    ]


def clean_data_problems(cells: Sequence[RequiredCell]) -> list[str]:
    """A line for each defense that gets clean data: the recall it restores depends on how much of them it gets."""
    named = {cell.planned.defense.spec for cell in cells if cell.base.cell.defense.defense.needs_clean}
    return [f"{spec} gets clean data, which the leaderboard's defenses have not" for spec in sorted(named)]


def budget_problems(records: Sequence[Record], rules: Rules) -> list[str]:
    """A line for each parameter of an attack that differs from the value that the preset sets for it.

    Args:
        records: of the submission. Whether the attacks ran with the parameters named there is checked by the addresses.
        rules: with the preset.
    """
    preset, problems = PRESETS[rules.preset], list[str]()
    for record in records:
        name, crafted = parse_spec(record.attack.spec).name, record.attack.params.get("attack")
        problems += _beyond(name, record.attack.params, preset.attack_values(name), rules)
        if isinstance(crafted, str):  # through a defense, as no attack is that does so itself
            with suppress(UsageError):
                inner = parse_spec(crafted)
                usual = {**preset.attack_values(inner.name), **preset.attacks.get(name, {})}
                problems += _beyond(inner.name, {**_fixed_by(inner.name), **inner.params}, usual, rules)
    return list(dict.fromkeys(problems))


def _beyond(name: str, params: Mapping[str, Any], budget: Mapping[str, Any], rules: Rules) -> Iterator[str]:
    """A line for each parameter of an attack that differs from the preset's."""
    for key, value in params.items():
        if key in budget and format_value(value) != format_value(budget[key]):
            yield (
                f"{name}: {key} is {format_value(value)[:60]}; preset {rules.preset} gives every attack "
                f"{format_value(budget[key])}"
            )


def _fixed_by(name: str) -> Mapping[str, Any]:
    """The parameters that an attack's name fixes, as ``mem3`` fixes k; empty for a plug-in that is not loaded."""
    with suppress(UsageError):
        return ATTACKS.entry(name).fixed
    return {}

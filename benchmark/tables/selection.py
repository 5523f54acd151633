"""Which records belong in one table, by content alone; records of differing settings are refused, not averaged."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from benchmark.core.errors import UsageError
from benchmark.core.spec import by_number, format_value, parse_spec, split_outside_brackets
from benchmark.grid.records import Record, ResolvedSpec, describe_origin

CLEAN, UNDEFENDED = "clean", "none"
ROWS = {
    CLEAN: "Clean",
    "mem3": "MEM-3",
    "em": "EM",
    "delta-only": "Delta only",
    "trigger-only": "Trigger only",
    "trigger-uniform": "Trigger + uniform",
    "uniform-noise": "Uniform noise",
    "random-trigger": "Random trigger",
    "same-words": "Same words",
    "em-official": "EM (em-official)",
    "mem-official": "MEM-3 (mem-official)",
}
"""The paper's attacks and the controls, with their names in tables, in the order in which they stand there."""
_MEM = re.compile(r"mem\d*")
_CODE = "code or files"
_RENAMED = {
    "Jpeg": "JPEG",
    "Cleanclip": "CleanCLIP",
    "Safeclip": "SafeCLIP",
    "Roclip": "RoCLIP",
    "Coin": "COIN",
    "Ueraser": "UEraser",
    "Ueraser lite": "UEraser-lite",
    "Onion lite": "ONION-lite",
    "Clip score filter": "CLIP score filter",
}
"""Labels of defenses in records from before a defense named itself, and its name."""
# Random splits put images with more or with fewer captions into a split.
_OF_ONE_SEED = frozenset(
    ("seed", "fingerprint", "val fingerprint", "test fingerprint", "train_captions", "test_captions")
)


@dataclass(frozen=True)
class Block:
    """All records of one data set and one victim, in one setting."""

    dataset: ResolvedSpec
    victim: ResolvedSpec
    records: tuple[Record, ...]

    @property
    def attacks(self) -> list[ResolvedSpec]:
        """The attacks, each once, in the order of tables, then by label; clean data are none."""
        found = {r.attack.spec: r.attack for r in self.records if r.attack.spec != CLEAN}
        return sorted(found.values(), key=lambda one: (place(one.spec), len(one.label), one.label, by_number(one.spec)))

    def of(self, attack: str | None = None, defense: str | None = None) -> list[Record]:
        """The records of an attack, of a defense or of both, given by their specs; by seed."""
        found = [
            record
            for record in self.records
            if attack in (None, record.attack.spec) and defense in (None, record.defense.spec)
        ]
        return sorted(found, key=lambda record: record.seed)


def place(attack: str) -> int:
    """Where an attack stands in tables: its place in :data:`ROWS`.

    An attack with other parameters or another trigger length has the place of the plain attack. Attacks that are not
    in :data:`ROWS` come last.
    """
    name = parse_spec(attack).name
    if _MEM.fullmatch(name):
        name = "mem3"
    return list(ROWS).index(name) if name in ROWS else len(ROWS)


def blocks(records: Iterable[Record]) -> list[Block]:
    """Records by data set and victim.

    Raises:
        UsageError: no records; records of one attack, defense or victim with differing settings; a cell twice.
    """

    def about(record: Record) -> tuple[str, str]:
        return record.dataset.spec, record.victim.spec

    found = []
    for _, group in groupby(sorted(records, key=about), key=about):
        members = as_shown(list(group))
        _require_one_setting(members)
        found.append(Block(members[0].dataset, members[0].victim, members))
    if not found:
        raise UsageError("there are no records to make a table of; make some with 'python -m benchmark run'")
    return found


def undefended_blocks(records: Iterable[Record]) -> list[Block]:
    """The undefended records by data set and victim; none if all are defended.

    Raises:
        UsageError: as for :func:`blocks`.
    """
    known = list(records)
    undefended = [record for record in known if record.defense.spec == UNDEFENDED]
    # No records at all is another mistake than defended ones alone.
    return blocks(undefended) if undefended or not known else []


def as_shown(records: Sequence[Record]) -> tuple[Record, ...]:
    """The records as tables show them: defenses of earlier records by the names of new ones.

    If a cell has records under two spellings, such as ``mem3`` and ``mem3[eps=8]``, it is shown once, under the shorter
    spelling. A failed record is left out if its cell is also done, as after a plug-in was mended and run again.
    """

    def cell(record: Record) -> tuple[str, str, str, str, str, int]:
        models = record.surrogate.spec, record.victim.spec
        return record.dataset.spec, record.attack.spec, record.defense.spec, *models, record.seed

    attacks = _spelled_once([record.attack for record in records])
    defenses = _spelled_once([_named_now(record.defense) for record in records])
    spelled = [
        replace(record, attack=attack, defense=defense)
        for record, attack, defense in zip(records, attacks, defenses, strict=True)
    ]
    done = {cell(record) for record in spelled if record.status == "done"}
    shown: list[Record] = []
    of_cell: dict[tuple[Any, ...], Record] = {}
    for written, record in zip(records, spelled, strict=True):
        if record.status == "done":
            # A copy under another spelling; any other second record of a cell is for blocks to refuse.
            first = of_cell.setdefault((*cell(record), record.key), written)
            if first is written or first.epochs != written.epochs or cell(first) == cell(written):
                shown.append(record)
        elif cell(record) not in done:
            shown.append(record)
    return tuple(shown)


def _spelled_once(resolved: Sequence[ResolvedSpec]) -> list[ResolvedSpec]:
    """The same attacks or defenses, each in its shortest spelling: the shortest spec of equal names and parameters."""
    chosen: dict[str, ResolvedSpec] = {}
    identities = [_identity(one) for one in resolved]
    for identity, one in zip(identities, resolved, strict=True):
        known = chosen.setdefault(identity, one)
        if (len(one.spec), one.spec) < (len(known.spec), known.spec):
            chosen[identity] = one
    return [chosen[identity] for identity in identities]


def _identity(resolved: ResolvedSpec) -> str:
    """Names and resolved parameters as text, and the parameters that only the spec holds, as in old records."""
    parts = [parse_spec(part) for part in split_outside_brackets(resolved.spec, "+")]
    written = [[part.name, {k: v for k, v in part.params.items() if not _holds(resolved.params, k)}] for part in parts]
    return json.dumps([written, resolved.params], sort_keys=True, default=str)


def _holds(params: Mapping[str, Any], name: str) -> bool:
    return name in params or any(isinstance(one, Mapping) and name in one for one in params.values())


def _named_now(defense: ResolvedSpec) -> ResolvedSpec:
    """A defense by the name that it has in new records."""
    parts = (_RENAMED.get(part, part) for part in defense.label.split(" + "))
    return replace(defense, label=" + ".join(parts))


def once_a_poison(records: Iterable[Record]) -> list[Record]:
    """Keep one victim for each poison: the architecture that crafted the poison, or else the first victim by name.

    Args:
        records: of undefended victims.
    """

    def poison(record: Record) -> tuple[Any, ...]:
        return record.dataset.spec, record.attack.spec, record.surrogate.spec, record.seed

    victims: dict[tuple[Any, ...], str] = {}
    undefended = sorted(records, key=lambda one: (one.victim.spec != one.surrogate.spec, one.victim.spec))
    for record in undefended:
        victims.setdefault(poison(record), record.victim.spec)
    # Records of that victim that mix settings all stay, for blocks to refuse.
    return [record for record in undefended if record.victim.spec == victims[poison(record)]]


def _require_one_setting(records: Sequence[Record]) -> None:
    first = records[0]
    compare_settings(f"data set {first.dataset.spec}", [(one, _data(one)) for one in records])
    # Records from before plain models are of fast ones.
    victims = [
        (one, {**one.victim.params, **one.recipe, "models": one.provenance.get("models", "fast")}) for one in records
    ]
    compare_settings(f"victim {first.victim.spec}", victims)
    by_attack: dict[str, list[tuple[Record, Mapping[str, Any]]]] = defaultdict(list)
    by_defense: dict[str, list[tuple[Record, Mapping[str, Any]]]] = defaultdict(list)
    by_cell: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for record in records:
        # Clean data come out the same from every surrogate.
        surrogate = {} if record.attack.spec == CLEAN else {"surrogate": record.surrogate.spec}
        by_attack[record.attack.spec].append((record, {**record.attack.params, **surrogate, **_code(record, "attack")}))
        by_defense[record.defense.spec].append((record, {**record.defense.params, **_code(record, "defense")}))
        by_cell[record.attack.spec, record.defense.spec, record.seed].append(record)
    for attack, settings in by_attack.items():
        compare_settings(f"attack {attack}", settings)
    for defense, settings in by_defense.items():
        compare_settings(f"defense {defense}", settings)
    for same in by_cell.values():
        if len(same) > 1:
            files = " and ".join(f"{record.file_name()} ({describe_origin(record)})" for record in same[:2])
            raise UsageError(f"two records of one cell: {files}; keep one")


def varies_with_seed(params: Mapping[str, Any]) -> frozenset[str]:
    """What of a data set may differ between seeds: nothing, unless each seed has a data set of its own."""
    return _OF_ONE_SEED if params.get("per_seed") else frozenset()


def _data(record: Record) -> Mapping[str, Any]:
    """Settings and content of a record's data set; what may vary with the seed is named after it, and so compared
    within one seed alone."""
    # Of the splits that victims are measured on; the training split's is among the settings.
    fingerprints = record.provenance.get("fingerprints", {})
    measured_on = {f"{split} fingerprint": value for split, value in fingerprints.items()}
    data = {"per_seed": False, **record.dataset.params, **measured_on, **_code(record, "dataset")}
    vary = varies_with_seed(record.dataset.params)
    return {f"seed {record.seed}: {key}" if key in vary else key: value for key, value in data.items()}


def _code(record: Record, of: str) -> Mapping[str, Any]:
    """Which code a record's attack or defense is of, as far as the record says."""
    return {_CODE: code[of]} if of in (code := record.provenance.get("code", {})) else {}


def compare_settings(what: str, settings: Sequence[tuple[Record, Mapping[str, Any]]]) -> None:
    """Refuse settings that differ in a value; one that lacks it (an older version's) differs in nothing.

    Raises:
        UsageError: they differ; the message names the value and two files.
    """
    seen: dict[str, dict[str, Record]] = {}
    for record, one in settings:
        for key, value in flatten(one).items():
            seen.setdefault(key, {}).setdefault(json.dumps(value, sort_keys=True, default=str), record)
    for key, values in seen.items():
        if len(values) > 1:
            two = list(values.items())[:2]
            shown = " and ".join(f"{key}={format_value(json.loads(value))}" for value, _ in two)
            files = " and ".join(record.file_name() for _, record in two)
            mend = "give --records a folder of one setting"
            if key == _CODE:
                mend = f"its file, or one that it reads, changed between the runs; delete the older records, or {mend}"
            raise UsageError(f"records mix settings of {what}: {shown} (in {files}); {mend}")


def flatten(params: Mapping[str, Any]) -> dict[str, Any]:
    """Nested parameters side by side: ``{"cutout": {"size": 0.5}}`` is ``{"cutout.size": 0.5}``."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        inner = flatten(value) if isinstance(value, Mapping) else None
        flat.update({key: value} if inner is None else {f"{key}.{name}": below for name, below in inner.items()})
    return flat


def params_with_inner(attack: ResolvedSpec) -> Mapping[str, Any]:
    """An attack's parameters; of one that crafts another through a defense, the other's as well."""
    inner = attack.params.get("attack")
    if not (isinstance(inner, str) and "defense" in attack.params):
        return attack.params
    try:
        spec = parse_spec(inner)
    except UsageError:  # a plug-in's text
        return attack.params
    return {**attack.params, "attack": spec.name, **{name: _read(value) for name, value in spec.params.items()}}


def _read(value: str) -> Any:
    """A value in a spec within a spec, as :func:`benchmark.core.spec.format_value` writes it."""
    return {"yes": True, "no": False, "none": None}.get(
        value, int(value) if value.isdecimal() and len(value) < 20 else value
    )

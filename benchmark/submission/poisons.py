"""Whether the poisons of a submission are those that its records were made with, as far as this shows without a run."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacks.poison import Poison
from benchmark.core.errors import PoisonError, UsageError
from benchmark.core.spec import format_value, parse_spec
from benchmark.data import CaptionDataset
from benchmark.export.verify_poison import verify_captions, verify_triggers
from benchmark.grid.poison_store import describe_poison
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid
from benchmark.submission.cells import RequiredCell
from benchmark.submission.rules import Rules
from benchmark.tables.selection import CLEAN
from victims.tokens import Tokenizer

_HEADER = 1 << 26  # bytes that triggers and the log of crafting may take
_EXACT = ("eps", "per", "largest", "trigger_words", "distinct_trigger_words", "trigger_word_count", "loss_per_round")
_ROUNDING = 1e-6  # of the losses: records hold seven digits, poisons all of them
# Sums of millions of numbers differ between machines in their last digits.
_NEARLY = {"psnr": 1e-3, "ssim": 1e-4}

Poisons = Mapping[tuple[str, int], Path]
"""By spec of the attack and seed."""


@dataclass(frozen=True)
class _Stored:
    path: Path
    poison: Poison


def check_poisons(
    found: Mapping[RequiredCell, Record], files: Sequence[Path], grid: Grid, rules: Rules
) -> tuple[Poisons, list[str]]:
    """Find the poison of every attack and seed, and say what is not as it has to be.

    Args:
        found: the records of the cells.
        files: ordinary files that should be poisons.
        grid: with the data of every seed.
        rules: with the largest ε.

    Returns:
        The files of the poisons that were found, and a line for each problem.
    """
    records: dict[tuple[str, int], list[Record]] = {}
    cells: dict[tuple[str, int], RequiredCell] = {}
    for cell, record in found.items():
        if record.attack.spec != CLEAN and record.status == "done":
            records.setdefault((record.attack.spec, record.seed), []).append(record)
            cells.setdefault((record.attack.spec, record.seed), cell)
    trains = {key: grid.data_of(cell.base.cell).train for key, cell in cells.items()}
    stored, problems = _load(files, max((_largest(train) for train in trains.values()), default=0))
    used: dict[tuple[str, int], Path] = {}
    for (attack, seed), own in records.items():
        named = stored.get(_identity(attack, own[0].attack.params, seed), [])
        if len(named) != 1:
            how_many = "no poison" if not named else f"{len(named)} poisons"
            problems.append(f"{attack}, seed {seed}: {how_many} with these parameters; there has to be one")
            continue
        used[attack, seed] = named[0].path
        problems += _problems(named[0], own, trains[attack, seed], rules)
    every = [one.path for several in stored.values() for one in several]
    problems += [f"{path} is the poison of no record" for path in every if path not in used.values()]
    return used, problems


def _largest(train: CaptionDataset) -> int:
    """Bytes of the largest poison that a training set may have: noise of its own for every caption."""
    return len(train.pairs) * 3 * train.resolution**2 + _HEADER


def _load(files: Sequence[Path], largest: int) -> tuple[dict[str, list[_Stored]], list[str]]:
    stored: dict[str, list[_Stored]] = {}
    problems = []
    for path in files:
        if path.stat().st_size > largest:
            problems.append(f"{path} is larger than a poison of these data can be, {largest >> 20} MiB")
            continue
        try:
            poison = Poison.load(path)
        except PoisonError as error:
            problems.append(str(error))
            continue
        said = poison.provenance
        try:
            key = _identity(str(said.get("attack")), said.get("params"), said.get("seed"))
        except UsageError:
            key = ""
        stored.setdefault(key, []).append(_Stored(path, poison))
    return stored, problems


def _identity(attack: str, params: Any, seed: Any) -> str:
    """A key that tells the poisons of a submission apart.

    It holds the parameters, not the attack's spec, because one attack may be spelled in several ways.
    """
    return json.dumps([parse_spec(attack).name, params, seed], sort_keys=True)


def _problems(stored: _Stored, records: Sequence[Record], train: CaptionDataset, rules: Rules) -> Iterator[str]:
    path, poison, asked = stored.path, stored.poison, records[0].attack.params.get("eps")
    if asked is not None and (poison.delta is None or poison.eps != asked):
        has = "no noise" if poison.delta is None else f"noise of ε = {poison.eps}/255"
        yield f"{path}: it has {has}, by the attack's parameters ε is {asked}/255"
    if poison.per_row:
        yield f"{path}: it has a noise for each caption; by the rules a photo is published once"
    tokenizer = Tokenizer()
    longest = max((len(tokenizer.encode(trigger)) for trigger in set(poison.trigger or [])), default=0)
    if longest > rules.trigger_tokens:
        yield f"{path}: a trigger has {longest} tokens, the rules allow {rules.trigger_tokens}"
    if poison.delta is not None and poison.eps > rules.eps:
        yield f"{path}: ε is {poison.eps}/255, the rules allow {rules.eps}/255"
    try:
        protected = poison.protect(train)
    except PoisonError as error:
        yield f"{path}: {error}"
        return
    for finding in (verify_triggers(poison), *verify_captions(poison, train, protected)):
        if finding.holds is False:
            yield f"{path}: {finding.text}"
    facts = describe_poison(poison, train, protected, records[0].seed)
    for record in records:
        for name in (*_EXACT, *_NEARLY):
            said, measured = record.poison.get(name), facts.get(name)
            if not _agree(name, said, measured):
                yield (
                    f"{record.file_name()}: {name} of the poison is {_shown(said)}, measured in {path.name} it is "
                    f"{_shown(measured)}"
                )


def _agree(name: str, said: Any, measured: Any) -> bool:
    if name in _NEARLY and said is not None and measured is not None:
        return math.isclose(said, measured, rel_tol=0, abs_tol=_NEARLY[name])
    if name == "loss_per_round" and said and measured and len(said) == len(measured):
        return all(math.isclose(*losses, rel_tol=_ROUNDING) for losses in zip(said, measured, strict=True))
    return json.dumps(said, sort_keys=True) == json.dumps(measured, sort_keys=True)


def _shown(value: Any) -> str:
    return "not said" if value is None else format_value(value)[:60]

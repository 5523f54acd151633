"""The ``list`` command: what exists, one line each; presets, which say more, a few."""

import argparse
import dataclasses
import sys
from textwrap import wrap
from typing import TYPE_CHECKING

from benchmark.cli.console import Item, print_items
from benchmark.core.printing import printable, show
from benchmark.core.spec import Spec, format_value
from benchmark.figures import FIGURES
from benchmark.grid.presets import PRESETS, Preset
from benchmark.tables import OF_ENTRIES, TABLES

if TYPE_CHECKING:
    from benchmark.core.registry import Entry, Registry

EXAMPLE = "list attacks"
KINDS = ("attacks", "defenses", "victims", "datasets", "presets", "tables", "figures")
_ABOUT_DEFAULTS = "A preset sets other values than these defaults; see 'list presets'."


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """What to list."""
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))


def execute(arguments: argparse.Namespace) -> int:
    """Print the list: in columns on a terminal, a line each elsewhere."""
    if sys.stdout.isatty():
        print_items(_items(arguments.kind), _notes(arguments.kind))
    else:
        show(*list_lines(arguments.kind))
    return 0


def list_lines(kind: str) -> list[str]:
    """One line for each attack, defense, victim, data set, table or figure, a few for a preset.

    Tables and figures have a line each with what they show.

    Args:
        kind: one of :data:`KINDS`.
    """
    lines = []
    for item in _items(kind):
        if kind == "presets":
            lines.append(f"{item.name}  {item.text}")
            for part in item.details.splitlines():
                lines += wrap(part, 118, initial_indent="  ", subsequent_indent="    ")
        else:
            parameters = f"[{item.details}]" if item.details else ""
            lines.append(f"{item.name}{parameters}  {item.text}")
    return [*lines, *_notes(kind)]


def names_of(kind: str) -> list[str]:
    """The names that a list has, for completion."""
    return [item.name for item in _items(kind)]


def _items(kind: str) -> list[Item]:
    if kind == "tables":
        return [Item(name, summary) for name, summary in {**TABLES, **OF_ENTRIES}.items()]
    if kind == "figures":
        return [Item(name, summary) for name, summary in FIGURES.items()]
    if kind == "victims":
        from victims.architecture import Architecture, model_names

        return [
            Item(name, f"{Architecture(name).resolution} px", "pretrained=none, repeat=1") for name in model_names()
        ]
    if kind == "presets":
        return [_preset(preset) for preset in PRESETS.values()]
    registry = _registry(kind)
    groups = [Item(name, f"= {', '.join(registry.group(name))}") for name in registry.groups()]
    return [*(_entry(entry, registry) for entry in registry.entries()), *(groups if kind == "defenses" else [])]


def _notes(kind: str) -> list[str]:
    return [_ABOUT_DEFAULTS] if kind in ("attacks", "defenses") else []


def _registry(kind: str) -> "Registry":
    from attacks import ATTACKS
    from benchmark.data import DATASETS
    from defenses import DEFENSES

    registries: dict[str, Registry] = {"attacks": ATTACKS, "defenses": DEFENSES, "datasets": DATASETS}
    return registries[kind]


def _entry(entry: "Entry", registry: "Registry") -> Item:
    if entry.fixed:
        base = next(other for other in registry.entries() if other.factory is entry.factory and not other.fixed)
        return Item(entry.name, f"= {Spec(base.name, entry.fixed)}")
    summary = entry.summary.replace("``", "")
    return Item(entry.name, printable(summary), printable(entry.signature()))


def _preset(preset: Preset) -> Item:
    chosen = f"dataset {preset.dataset}, victim {preset.victim}, surrogate {preset.surrogate}"
    values = {"recipe": dataclasses.asdict(preset.recipe), "attacks": preset.attack, **preset.attacks, **preset.defense}
    parts = [
        f"{name}: {', '.join(f'{key}={format_value(value)}' for key, value in params.items())}"
        for name, params in values.items()
        if params
    ]
    return Item(preset.name, preset.summary, "\n".join([chosen, *parts]))

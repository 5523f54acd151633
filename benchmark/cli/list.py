"""The ``list`` command: what exists, one line each; presets, which say more, a few."""

import argparse
import dataclasses
from collections.abc import Sequence
from textwrap import fill

from attacks import ATTACKS
from benchmark.core.registry import Entry, Registry
from benchmark.core.spec import Spec, format_value
from benchmark.data import DATASETS
from benchmark.figures import FIGURES
from benchmark.grid.presets import PRESETS, Preset
from benchmark.tables import TABLES
from defenses import DEFENSES
from victims.clip import Architecture, model_names

EXAMPLE = "python -m benchmark list attacks"
KINDS = ("attacks", "defenses", "victims", "datasets", "presets", "tables", "figures")


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """What to list."""
    parser.add_argument("kind", choices=KINDS, help="what to list")


def execute(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Print the list."""
    print("\n".join(list_lines(arguments.kind)))
    return 0


def list_lines(kind: str) -> list[str]:
    """One line for each attack, defense, victim or data set, a few for a preset, with parameters and defaults.

    Tables and figures have a line each with what they show.

    Args:
        kind: one of :data:`KINDS`.
    """
    if kind in ("tables", "figures"):
        return [f"{name}  {summary}" for name, summary in (TABLES if kind == "tables" else FIGURES).items()]
    if kind == "victims":
        return [f"{name}[pretrained=none]  {Architecture(name).resolution} px" for name in model_names()]
    if kind == "presets":
        return [line for preset in PRESETS.values() for line in _preset(preset)]
    registries: dict[str, Registry] = {"attacks": ATTACKS, "defenses": DEFENSES, "datasets": DATASETS}
    registry = registries[kind]
    lines = [_entry(entry, registry) for entry in registry.entries()]
    if kind == "defenses":
        lines += [f"{group}  = {', '.join(registry.group(group))}" for group in registry.groups()]
    if kind in ("attacks", "defenses"):
        lines.append("A preset sets other values than these defaults; see 'list presets'.")
    return lines


def _entry(entry: Entry, registry: Registry) -> str:
    if entry.fixed:
        base = next(one for one in registry.entries() if one.factory is entry.factory and not one.fixed)
        return f"{entry.name}  = {Spec(base.name, entry.fixed)}"
    return f"{entry.signature()}  {entry.summary.replace('``', '')}"


def _preset(preset: Preset) -> list[str]:
    chosen = f"dataset {preset.dataset}, victim {preset.victim}, surrogate {preset.surrogate}"
    values = {"recipe": dataclasses.asdict(preset.recipe), "attacks": preset.attack, **preset.defense}
    parts = [
        f"{name}: {', '.join(f'{key}={format_value(value)}' for key, value in params.items())}"
        for name, params in values.items()
        if params
    ]
    lines = [fill(part, 118, initial_indent="  ", subsequent_indent="    ") for part in [chosen, *parts]]
    return [f"{preset.name}  {preset.summary}", *lines]

"""The ``run`` command: settings from flags, file and preset; the plan; the grid; the table."""

import argparse
import dataclasses
import os
import shlex
import sys
import typing
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import yaml
from tabulate import tabulate

from benchmark.core.atomic_files import make_folder
from benchmark.core.cache_dir import cache_folder
from benchmark.core.distributed import Processes, process_group
from benchmark.core.errors import UsageError
from benchmark.core.malloc import keep_freed_memory
from benchmark.core.registry import convert, unknown
from benchmark.core.seeding import use_repeatable_kernels
from benchmark.grid.cells import (
    choose_attacks,
    choose_dataset,
    choose_defenses,
    choose_surrogates,
    choose_victims,
    make_cells,
    pick_preset,
    read_seeds,
)
from benchmark.grid.poison_store import PoisonStore
from benchmark.grid.presets import PRESETS
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell, Rerun, load_splits, run_grid
from benchmark.grid.tracking import Tracker, Tracking
from benchmark.tables import render, table2
from victims.clip import resolve_device, resolve_precision
from victims.recipe import Recipe

_DEFAULTS = {
    "attack": "mem3",
    "defense": "table2",
    "seeds": "1",
    "preset": "tiny",
    "out": "results/runs",
    "device": "auto",
    "rerun": "missing",
    "checkpoint_every": "1",
}
_OPTIONAL = ("dataset", "victim", "surrogate", "poisons", "cache", "skip_bad", "dry_run", "track")


def run_command(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run a grid from the command line and print its table.

    Returns:
        0 if every cell is done, 1 if one failed.

    Raises:
        UsageError: bad input, found before any work.
    """
    records = run(arguments, argv)
    if any(record.status == "done" for record in records):
        print(render(table2(records), "markdown"))
    return outcome(records)


def outcome(records: Sequence[Record]) -> int:
    """The exit code: 0 if every cell is done, 1 if one failed, which then is told how to run again."""
    if all(record.status == "done" for record in records):
        return 0
    print("a failed cell runs again with --rerun failed", file=sys.stderr)
    return 1


def run(
    arguments: argparse.Namespace,
    argv: Sequence[str],
    on_plan: Callable[[list[Record]], None] = lambda blanks: None,
    already_run: Collection[str] = (),
) -> list[Record]:
    """Run a grid in this process, or together with others that ``torchrun`` has started.

    Args:
        arguments: of the command line's ``run``.
        argv: the same as written, for the records.
        on_plan: is shown the records of all cells as far as they are known before any runs, and may raise.
        already_run: keys of cells that have run for the same command already, and do not run again.

    Returns:
        The records of all its cells, new and old; none for a plan alone, and none in processes that help the first.

    Raises:
        UsageError: bad input, found before any work.
    """
    settings = read_settings(arguments)
    with process_group(resolve_device(str(settings["device"]))) as device, ExitStack() as stack:
        if not Processes.current().is_first:
            # All say the same.
            nowhere = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        return _run(settings, device, argv, on_plan, already_run)


def _run(
    settings: dict[str, Any],
    device: torch.device,
    argv: Sequence[str],
    on_plan: Callable[[list[Record]], None],
    already_run: Collection[str],
) -> list[Record]:
    preset = pick_preset(str(settings["preset"]), PRESETS)
    attacks = choose_attacks(str(settings["attack"]), preset)
    asked = str(settings["attack"])
    defenses = choose_defenses(str(settings["defense"]), preset)
    victims = choose_victims(str(settings.get("victim") or preset.victim))
    recipe = read_recipe(settings, preset.recipe)
    recipe = dataclasses.replace(recipe, precision=resolve_precision(device, recipe.precision))
    cells = make_cells(
        choose_dataset(
            str(settings.get("dataset") or preset.dataset), convert(settings.get("skip_bad", False), bool, "--skip-bad")
        ),
        attacks,
        defenses,
        choose_surrogates(victims, settings.get("surrogate"), preset),
        recipe,
        read_seeds(str(settings["seeds"])),
        cross_clean=any(part.strip() == "clean" for part in asked.split(",")),
    )
    rerun = settings["rerun"]
    if rerun not in typing.get_args(Rerun):
        raise UsageError(f"rerun takes missing, failed or all, got '{rerun}'")
    every = convert(settings["checkpoint_every"], int, "--checkpoint-every")
    if every < 0:
        raise UsageError(f"--checkpoint-every must be at least 0, got {every}")
    track = settings.get("track")
    if track is not None and track not in typing.get_args(Tracker):
        raise UsageError(f"track takes {', '.join(typing.get_args(Tracker))}, got '{track}'")
    dry_run = convert(settings.get("dry_run", False), bool, "--dry-run")
    out, cache = Path(settings["out"]), Path(settings.get("cache") or cache_folder())
    use_repeatable_kernels(device)
    keep_freed_memory()
    processes = Processes.current()
    with processes.rank0_first():
        splits = load_splits(cells, cache)
    with PoisonStore.open(settings.get("poisons"), cache, every) as store:
        grid = Grid(
            cells=cells,
            splits=splits,
            out=out,
            poisons=store,
            device=device,
            provenance={
                "command": f"python -m benchmark {shlex.join(argv)}",
                "preset": preset.name,
                "processes": processes.size,
            },
            checkpoint_every=every,
            tracking=Tracking(track if processes.is_first else None, out),
        )
        grid.check()
        planned = grid.plan(already_run)
        on_plan([one.planned_record for one in planned])
        print(plan_table(grid, planned, rerun), file=sys.stderr, flush=True)
        if dry_run:
            return []
        make_folder(out)
        make_folder(grid.poisons.folder)
        records = run_grid(grid, planned, rerun)
    for record in records:
        if record.status == "failed":
            print(f"failed: {record.attack.title} × {record.defense.spec}: {record.error['message']}", file=sys.stderr)
    return records


def read_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Flags over the YAML file over defaults; recipe fields and options that nobody set are absent.

    Raises:
        UsageError: the file cannot be read or has an unknown key.
    """
    fields = [field.name for field in dataclasses.fields(Recipe)]
    known = [*_DEFAULTS, *_OPTIONAL, *fields]
    flags = {key: value for key in known if (value := getattr(arguments, key, None)) is not None}
    return {**_DEFAULTS, **(_read_config(arguments.config, known) if arguments.config else {}), **flags}


def _read_config(path: Path, known: Sequence[str]) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text("utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected keys and values, got {type(data).__name__}")
    settings = {}
    for key, value in data.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise UsageError(f"{path}: {unknown('key', str(key), list(known))}")
        if value is not None:
            settings[name] = _as_written(name, value)
    return settings


def _as_written(name: str, value: Any) -> Any:
    """A YAML value as it would be written behind the flag."""
    if name == "poisons" and value is False:  # YAML reads a bare off as false
        return "off"
    if isinstance(value, list):
        return ",".join(map(str, value)) + ("," if name == "seeds" else "")
    return value if isinstance(value, bool) else str(value)


def read_recipe(settings: dict[str, Any], preset: Recipe) -> Recipe:
    """The preset's recipe with the fields that were set.

    Raises:
        UsageError: a value of the wrong kind or out of range.
    """
    hints = typing.get_type_hints(Recipe)
    given = {
        field.name: convert(settings[field.name], hints[field.name], f"--{field.name.replace('_', '-')}")
        for field in dataclasses.fields(Recipe)
        if field.name in settings
    }
    return dataclasses.replace(preset, **given)


def plan_table(grid: Grid, planned: Sequence[PlannedCell], rerun: Rerun) -> str:
    """The plan: every cell, whether it runs, whether its poison is there."""
    rows = []
    for one in planned:
        state = "runs" if one.has_to_run(rerun) else (one.record.status if one.record else "runs")
        train = grid.splits[one.cell.victim.resolution].train
        poison = "–" if one.cell.attack.is_clean else "cached" if grid.poisons.has(one.cell, train) else "to craft"
        cell = one.cell
        rows.append([cell.seed, str(cell.victim), cell.attack.choice.title, cell.defense.choice.spec, poison, state])
    running = sum(one.has_to_run(rerun) for one in planned)
    head = f"{len(planned)} cells, {running} to run; records in {grid.out}, poisons in {grid.poisons.folder}"
    table = tabulate(rows, headers=["seed", "victim", "attack", "defense", "poison", "cell"])
    return f"{head}\n{table}\n"

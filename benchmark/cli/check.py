"""The ``check`` command: are poisons still as strong as the reference? Fresh seeds against reference records."""

import argparse
from dataclasses import replace
from pathlib import Path

from benchmark.cli.flags import add_settings
from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError
from benchmark.core.registry import convert
from benchmark.grid.presets import Preset
from benchmark.grid.settings import RunSettings
from benchmark.reference_check import LEVEL, REFERENCE

EXAMPLE = "check --seeds 3"
_JOBS = "auto"  # the models of preset micro are so small that two of them together train faster than two in turn
_MOST_SEEDS = 1000
_NOT_RUN = ("seeds", "out", "device", "on", "jobs", "store", "events")  # flags of cells that --records does not run


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """The reference, the fresh seeds, and how sure an alarm has to be."""
    parser.add_argument(
        "--reference", type=user_path, metavar="DIR", help=f"folder of the reference (default: {REFERENCE})"
    )
    parser.add_argument(
        "--seeds",
        metavar="N",
        help="number of fresh seeds (default: 1); with --update, of reference seeds (default: as many as now)",
    )
    parser.add_argument(
        "--level", metavar="P", help=f"probability of a false alarm, between 0 and 1 (default: {LEVEL:g})"
    )
    parser.add_argument(
        "--out", type=user_path, metavar="DIR", help="folder for the fresh records (default: they are not kept)"
    )
    parser.add_argument(
        "--records",
        type=user_path,
        metavar="DIR",
        help="run nothing; compare the fresh records in this folder, seed by seed; with --update, add them to the "
        "reference",
    )
    parser.add_argument("--update", action="store_true", help="replace the reference; with --records, extend it")
    add_settings(parser, ("device", "on", "jobs", "store", "events", "plain_models"), preset, defaults={"jobs": _JOBS})


def execute(arguments: argparse.Namespace) -> int:
    """Compare fresh seeds with the reference, make a new reference, or add seeds to it.

    Returns:
        0 if every number lies in its interval, 1 if not or if a cell failed.

    Raises:
        UsageError: no reference, or one that cannot be compared with.
    """
    from benchmark.reference_check.runner import compare_fresh, grow, replay, update

    folder: Path = arguments.reference or REFERENCE
    how = RunSettings.from_cli(arguments)
    if how.jobs is None and how.on == RunSettings.on:
        how = replace(how, jobs=_JOBS)
    count = None if arguments.seeds is None else convert(arguments.seeds, int, "--seeds")
    if count is not None and not 1 <= count <= _MOST_SEEDS:
        raise UsageError(f"--seeds must be from 1 to {_MOST_SEEDS:,}, got {count}")
    if arguments.plain_models and (arguments.update or arguments.records):
        raise UsageError("--plain-models is for fresh seeds; it goes neither with --update nor with --records")
    idle = dict.fromkeys(_NOT_RUN if arguments.records else (), "records")
    idle |= dict.fromkeys(("out", "level") if arguments.update else (), "update")
    if given := [name for name in idle if getattr(arguments, name) is not None]:
        raise UsageError(f"--{given[0]} has no meaning with --{idle[given[0]]}")
    if arguments.update:
        return grow(folder, arguments.records) if arguments.records else update(folder, count, how)
    level = LEVEL if arguments.level is None else convert(arguments.level, float, "--level")
    if not 0 < level < 1:
        raise UsageError(f"--level must be between 0 and 1, got {level:g}")
    if arguments.records:
        return replay(folder, arguments.records, level)
    count = 1 if count is None else count
    return compare_fresh(folder, count, level, how, arguments.out)

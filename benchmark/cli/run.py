"""The ``run`` command: craft poisons, train victims, print the table."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.cli.flags import add_recipe, add_settings, all_settings_but
from benchmark.grid.presets import Preset
from benchmark.grid.records import Record

EXAMPLE = "python -m benchmark run --attack clean,em,mem3 --defense 'cutout,prefix-drop[n=5]' --seeds 3 --dry-run"


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """Every field of the settings, and the file that may hold them."""
    add_settings(parser, all_settings_but("plugin"), preset)
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with these flags as keys; flags win")
    add_recipe(parser, preset)


def execute(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run a grid and print Table 2 of it.

    Returns:
        0 if every cell is done, 1 if one failed.

    Raises:
        UsageError: bad input, found before any work.
    """
    from benchmark.grid.run import run
    from benchmark.grid.settings import RunSettings
    from benchmark.tables.defenses import table2
    from benchmark.tables.render import render

    records = run(RunSettings.from_cli(arguments))
    if any(record.status == "done" for record in records):
        print(render(table2(records), "markdown"))
    return exit_code(records)


def exit_code(records: Sequence[Record]) -> int:
    """0 if every cell is done; 1 if one failed, with a line that says how to run it again."""
    if all(record.status == "done" for record in records):
        return 0
    print("--rerun failed runs the failed cells again", file=sys.stderr)
    return 1

"""The ``run`` command: craft poisons, train victims, print the table."""

import argparse
import logging

from benchmark.cli.flags import RECIPE, add_notes, add_recipe, add_settings
from benchmark.core.cache_dir import user_path
from benchmark.grid.presets import Preset
from benchmark.grid.settings import RunSettings, setting_names

EXAMPLE = "run --attack clean,mem3 --defense cutout,mixup --seeds 3"


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """Every field of the settings, and the file that may hold them."""
    add_settings(parser, [name for name in setting_names() if name not in (*RECIPE, "plugin")], preset)
    parser.add_argument(
        "--config",
        type=user_path,
        metavar="FILE",
        help="YAML file with these settings; flags given beside it win (default: none)",
    )
    add_notes(parser)
    add_recipe(parser, preset)


def execute(arguments: argparse.Namespace) -> int:
    """Run a grid and print Table 2 of it.

    Returns:
        0 if every cell is done, 1 if one failed.

    Raises:
        UsageError: bad input, found before any work.
    """
    from benchmark.cli.console import exit_code, print_tables
    from benchmark.core.log import show_messages
    from benchmark.grid.run import run
    from benchmark.tables.defenses import table2

    settings = RunSettings.from_cli(arguments)
    arguments.rerun = settings.rerun  # which --config may set; after Ctrl-C, it decides what is said
    if settings.dry_run and arguments.quiet and not arguments.dry_run:
        show_messages(logging.INFO)  # --config asks for the plan, which is all that a dry run has to say
    records = run(settings)
    if any(record.status == "done" for record in records):
        print_tables(table2(records), notes=arguments.notes)
    return exit_code(records)

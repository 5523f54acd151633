"""The ``table`` command: print a table from records."""

import argparse

from benchmark.cli.flags import ENTRIES, RECORDS, add_notes
from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError
from benchmark.grid.presets import Preset
from benchmark.tables import FORMATS, LEADERBOARD, OF_ENTRIES, TABLES

EXAMPLE = "table 2 --records results/tiny/records --beside paper"


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """Which table, of which records, in which form."""
    names = (*TABLES, *OF_ENTRIES)
    parser.add_argument("name", choices=names, metavar="TABLE", help=f"{', '.join(names)}; see 'list tables'")
    parser.add_argument(
        "--records",
        type=user_path,
        metavar="DIR",
        help=f"folder of records (default: {RECORDS}); for {LEADERBOARD}, folder of entries (default: {ENTRIES})",
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="form of the table (default: fitted to a terminal, markdown elsewhere)"
    )
    parser.add_argument(
        "--beside", choices=("paper",), help="show the paper's values and the differences too (default: ours alone)"
    )
    add_notes(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Print the table.

    Raises:
        UsageError: no records or entries, or none that make such a table.
    """
    from benchmark.cli.console import print_tables
    from benchmark.core.printing import show
    from benchmark.grid.records import load_records
    from benchmark.tables.entries import load_entries
    from benchmark.tables.leaderboard import leaderboard
    from benchmark.tables.make import make_tables
    from benchmark.tables.render import render

    beside = arguments.beside == "paper"
    if arguments.name in OF_ENTRIES:
        if beside:
            raise UsageError(f"the paper has no {arguments.name} to set beside ours")
        if arguments.records and not arguments.records.is_dir():
            raise UsageError(f"no folder of entries at {arguments.records}")
        tables = leaderboard(load_entries(arguments.records or ENTRIES))
    else:
        tables = make_tables(arguments.name, load_records(arguments.records or RECORDS), beside_paper=beside)
    if arguments.format is None:
        print_tables(tables, notes=arguments.notes)
    else:
        show(*render(tables, arguments.format).split("\n"))
    return 0

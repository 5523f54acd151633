"""The ``table`` command: print a table from records."""

import argparse
from collections.abc import Sequence

from benchmark.cli.flags import add_notes, add_records
from benchmark.grid.presets import Preset

EXAMPLE = "table 2 --records results/tiny/records --beside paper"


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """Which table, of which records, in which form."""
    from benchmark.tables import FORMATS, TABLES

    parser.add_argument("name", choices=tuple(TABLES), metavar="TABLE", help=f"{', '.join(TABLES)}; see 'list tables'")
    add_records(parser)
    parser.add_argument(
        "--format", choices=FORMATS, help="form of the table (default: fitted to a terminal, markdown elsewhere)"
    )
    parser.add_argument(
        "--beside", choices=("paper",), help="show the paper's values and the differences too (default: ours alone)"
    )
    add_notes(parser)


def execute(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Print the table.

    Raises:
        UsageError: no records, or none that make such a table.
    """
    from benchmark.cli.console import print_tables
    from benchmark.core.printing import show
    from benchmark.grid.records import load_records
    from benchmark.tables.make import make_tables
    from benchmark.tables.render import render

    tables = make_tables(arguments.name, load_records(arguments.records), beside_paper=arguments.beside == "paper")
    if arguments.format is None:
        print_tables(tables, notes=arguments.notes)
    else:
        show(*render(tables, arguments.format).split("\n"))
    return 0

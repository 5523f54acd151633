"""The ``table`` command: print a table from records."""

import argparse
from collections.abc import Sequence

from benchmark.cli.flags import add_records
from benchmark.grid.presets import Preset

EXAMPLE = "python -m benchmark table 2 --records results/tiny/records --format latex --beside paper"


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """Which table, of which records, in which form."""
    from benchmark.tables import FORMATS, TABLES

    parser.add_argument("name", choices=tuple(TABLES), help="see 'list tables'")
    add_records(parser)
    parser.add_argument("--format", choices=FORMATS, default="markdown", help="form of the table (default: markdown)")
    parser.add_argument("--beside", choices=("paper",), help="set the paper's values and the differences beside ours")


def execute(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Print the table.

    Raises:
        UsageError: no records, or none that make such a table.
    """
    from benchmark.grid.records import load_records
    from benchmark.tables.make import make_tables
    from benchmark.tables.render import render

    tables = make_tables(arguments.name, load_records(arguments.records), beside_paper=arguments.beside == "paper")
    print(render(tables, arguments.format))
    return 0

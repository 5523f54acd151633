"""The ``report`` command: all tables and figures of some records as one HTML page."""

import argparse
from pathlib import Path

from benchmark.cli.flags import add_artifacts, add_records, artifact_paths
from benchmark.core.cache_dir import user_path
from benchmark.grid.presets import Preset

EXAMPLE = "report --records results/tiny/records --out report.html"


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """Which records, and the page."""
    add_records(parser)
    parser.add_argument(
        "--out", type=user_path, default=Path("report.html"), metavar="FILE", help="the page (default: report.html)"
    )
    add_artifacts(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Write the page.

    Raises:
        UsageError: no records, or the page cannot be written.
    """
    from benchmark.core.printing import show
    from benchmark.grid.records import load_records
    from benchmark.report.page import write_report

    write_report(load_records(arguments.records), artifact_paths(arguments), arguments.out)
    show(arguments.out)
    return 0

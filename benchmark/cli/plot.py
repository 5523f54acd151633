"""The ``plot`` command: draw figures from records."""

import argparse
import logging
from pathlib import Path

from benchmark.cli.flags import add_artifacts, add_records, artifact_paths
from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError
from benchmark.figures import FIGURES
from benchmark.grid.presets import Preset

_log = logging.getLogger(__name__)

EXAMPLE = "plot curves --records results/tiny/records --out figures"


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """Which figures, of which records, and where they go."""
    parser.add_argument(
        "names",
        nargs="+",
        choices=tuple(FIGURES),
        metavar="FIGURE",
        help=f"one or more of {', '.join(FIGURES)}; see 'list figures'",
    )
    add_records(parser)
    parser.add_argument(
        "--out",
        type=user_path,
        default=Path("results/figures"),
        metavar="DIR",
        help="folder for the figures (default: results/figures)",
    )
    add_artifacts(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Draw what can be drawn, and say on standard error what cannot; all are drawn before the first is written.

    Raises:
        UsageError: no records, or none that make any of the figures.
    """
    from benchmark.core.printing import show
    from benchmark.figures.draw import draw_all
    from benchmark.figures.style import write
    from benchmark.grid.records import load_records

    figures, problems = draw_all(arguments.names, load_records(arguments.records), artifact_paths(arguments))
    if not figures:
        raise UsageError("; ".join(map(str, problems)))
    for name, figure in figures.items():
        show(*write(figure, arguments.out, name))
    for problem in problems:
        _log.warning("not drawn: %s", problem)
    return 0

"""The ``plot`` command: draw figures from records."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmark.cli.flags import add_artifacts, add_records
from benchmark.figures import FIGURES, ArtifactPaths, write
from benchmark.grid.presets import Preset

EXAMPLE = "python -m benchmark plot curves defenses --records results/tiny/records --out figures"


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """Which figures, of which records, and where they go."""
    parser.add_argument("names", nargs="+", choices=tuple(FIGURES), metavar="FIGURE", help="see 'list figures'")
    add_records(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("results/figures"),
        metavar="DIR",
        help="folder for the figures (default: results/figures)",
    )
    add_artifacts(parser)


def execute(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Draw the figures; all are drawn before the first is written.

    Raises:
        UsageError: no records, or none that make such a figure.
    """
    from benchmark.grid.records import load_records

    records, paths = load_records(arguments.records), artifact_paths(arguments)
    drawn = [FIGURES[name](records, paths) for name in arguments.names]
    for name, figure in (item for figures in drawn for item in figures.items()):
        print("\n".join(str(path) for path in write(figure, arguments.out, name)))
    return 0


def artifact_paths(arguments: argparse.Namespace) -> ArtifactPaths:
    """Where the flags say that poisons and images lie."""
    from benchmark.core.cache_dir import cache_folder

    cache = Path(arguments.cache or cache_folder())
    return ArtifactPaths(Path(arguments.poisons or cache / "poisons"), cache)

"""The ``contract`` command: test an attack or a defense against the plug-in contract."""

import argparse

from benchmark.grid.presets import Preset

EXAMPLE = "contract defense 'cutout[size=0.3]'"


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """What to test."""
    parser.add_argument("kind", choices=("attack", "defense"), metavar="KIND", help="attack or defense")
    parser.add_argument("spec", metavar="NAME", help="its name, with the parameters that differ from their defaults")


def execute(arguments: argparse.Namespace) -> int:
    """Print each promise, whether it was kept, and how much a defense changes.

    Returns:
        0 if all were kept, 1 if not.
    """
    from benchmark.contracts import check
    from benchmark.core.printing import show

    verdict = check(arguments.kind, arguments.spec)
    show(*verdict.lines())
    return 1 if verdict.broken else 0

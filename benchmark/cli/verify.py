"""The ``verify`` command: is an export or a stored poison what it says of itself?"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmark.cli.flags import add_settings
from benchmark.core.errors import UsageError
from benchmark.grid.presets import Preset

EXAMPLE = "python -m benchmark verify protected --against scenes"


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """What to verify, and the clean data to compare with."""
    parser.add_argument("path", type=Path, help="folder of an export, or a poison file (.safetensors)")
    parser.add_argument("--against", metavar="DATASET", help="the clean data set, to compare images and captions with")
    add_settings(parser, ("cache",), preset)


def execute(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Print each check with its outcome.

    Returns:
        0 if everything agrees, 1 if anything deviates.

    Raises:
        UsageError: neither an export nor a poison, or the data set cannot be read.
    """
    from benchmark.core.cache_dir import cache_folder
    from benchmark.export.verify_export import check_export
    from benchmark.export.verify_poison import check_poison
    from benchmark.grid.cells import choose_dataset

    path: Path = arguments.path
    cache = Path(arguments.cache or cache_folder())
    clean = choose_dataset(arguments.against).source if arguments.against else None
    if path.is_dir():
        checks = check_export(path, clean, cache)
    elif path.is_file():
        checks = check_poison(path, clean, cache)
    else:
        raise UsageError(f"{path} does not exist")
    print("\n".join(str(check) for check in checks))
    wrong = sum(check.holds is False for check in checks)
    print(f"{path}: {f'{wrong} of {len(checks)} checks failed' if wrong else 'all is as it should be'}")
    return 1 if wrong else 0

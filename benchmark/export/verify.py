"""The ``verify`` command: is an export or a stored poison what it says of itself?"""

import argparse
from pathlib import Path

from benchmark.core.cache_dir import cache_folder
from benchmark.core.errors import UsageError
from benchmark.data import DatasetSource
from benchmark.export.verify_export import check_export
from benchmark.export.verify_poison import check_poison
from benchmark.grid.cells import choose_dataset


def verify_command(arguments: argparse.Namespace) -> int:
    """Check a folder or file and print each check with its outcome.

    Returns:
        0 if all is as it should be, 1 if anything deviates.

    Raises:
        UsageError: neither an export nor a poison, or the data set cannot be read.
    """
    path: Path = arguments.path
    cache = arguments.cache or cache_folder()
    source: DatasetSource | None = choose_dataset(arguments.against).source if arguments.against else None
    if path.is_dir():
        checks = check_export(path, source, cache)
    elif path.is_file():
        checks = check_poison(path, source, cache)
    else:
        raise UsageError(f"{path} does not exist")
    print("\n".join(str(check) for check in checks))
    wrong = sum(check.holds is False for check in checks)
    print(f"{path}: {f'{wrong} of {len(checks)} checks failed' if wrong else 'all is as it should be'}")
    return 1 if wrong else 0

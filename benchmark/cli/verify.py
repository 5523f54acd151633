"""The ``verify`` command: does an export, a folder of protected photos or a stored poison match its description?"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cli.flags import add_settings, cache_named
from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError, as_usage_error
from benchmark.grid.presets import Preset

if TYPE_CHECKING:
    from benchmark.export.finding import Finding

EXAMPLE = "verify protected --against scenes"


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """What to verify, and the clean data to compare with."""
    parser.add_argument("path", type=user_path, metavar="PATH", help="an export, protected photos or a poison file")
    parser.add_argument(
        "--against",
        metavar="DATASET",
        help="compare images and captions with the originals: of an export or a poison the data set that it was made "
        "from, of protected photos their folder or table (default: the files' own checks alone)",
    )
    add_settings(parser, ("cache",), preset)


def execute(arguments: argparse.Namespace) -> int:
    """Print each finding.

    Returns:
        0 if everything holds, 1 if anything fails.

    Raises:
        UsageError: the path is none of these, or the originals cannot be read or are not of its kind.
    """
    from benchmark.data.photos import find_photos
    from benchmark.export.manifest import Manifest
    from benchmark.export.protected import Protection
    from benchmark.export.verify_export import verify_export
    from benchmark.export.verify_photos import verify_photos
    from benchmark.export.verify_poison import verify_poison
    from benchmark.grid.choices import choose_dataset

    path: Path = arguments.path
    if (protection := Protection.load(path)) is not None:
        with as_usage_error("--against, for protected photos", (UsageError,)):
            originals = find_photos(arguments.against, path) if arguments.against else None
        findings = verify_photos(path, protection, originals)
        return _show(path, findings)
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    if path.is_file() and path.suffix != ".safetensors":
        raise UsageError(
            f"{path} is a single file; verify takes the folder of an export or of protected photos, or a poison's "
            ".safetensors file"
        )
    if path.is_dir():
        Manifest.load(path)  # so that a folder that is no export is told of before what it is compared with
    cache = cache_named(arguments)
    try:
        clean = choose_dataset(arguments.against).source if arguments.against else None
    except UsageError as error:
        if not user_path(arguments.against).exists():
            raise
        raise UsageError(
            f"--against {arguments.against}: an export or a poison is compared with the data set that it was made "
            "from, such as scenes or csv[…], not with a folder or table"
        ) from error
    findings = verify_export(path, clean, cache) if path.is_dir() else verify_poison(path, clean, cache)
    return _show(path, findings)


def _show(path: Path, findings: Sequence["Finding"]) -> int:
    from benchmark.core.printing import show

    show(*findings)
    failed = sum(finding.holds is False for finding in findings)
    show(f"{path}: {f'{failed} of {len(findings)} checks failed' if failed else 'all is as it should be'}")
    return 1 if failed else 0

"""The ``submit`` command: check records and poisons that somebody else has made, and add them to the leaderboard."""

import argparse

from benchmark.cli.flags import ENTRIES, add_seed, add_settings, cache_named
from benchmark.core.cache_dir import user_path
from benchmark.grid.presets import Preset

EXAMPLE = "submit my-submission"


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """What to check, how far to trust it, and where the leaderboard is."""
    parser.add_argument("folder", type=user_path, metavar="FOLDER", help="the submission; see docs/submitting.md")
    parser.add_argument(
        "--out", type=user_path, default=ENTRIES, metavar="DIR", help=f"folder of the leaderboard (default: {ENTRIES})"
    )
    add_seed(
        parser,
        default=None,
        meaning="seed that picks the cell to run again, and is printed (default: from the records' scores and the day)",
    )
    parser.add_argument("--no-rerun", action="store_true", help="run no cell again; the row then says so")
    parser.add_argument(
        "--trust-plugin",
        action="store_true",
        help="execute the submission's Python file, to recompute addresses; read it first: it may do anything that "
        "you may",
    )
    parser.add_argument("--update", action="store_true", help="replace the entry of this name")
    add_settings(parser, ("device", "cache"), preset)


def execute(arguments: argparse.Namespace) -> int:
    """Print each finding, and write an entry if no rule is broken.

    Returns:
        0 if the entry was written, 1 if a rule is broken.

    Raises:
        UsageError: the submission cannot be read, or has an entry already.
    """
    from benchmark.core.printing import show
    from benchmark.submission.submit import Options, submit

    options = Options(
        out=arguments.out,
        cache=cache_named(arguments),
        device=arguments.device or "auto",
        seed=arguments.seed,
        rerun=not arguments.no_rerun,
        trust_plugin=arguments.trust_plugin,
        update=arguments.update,
    )
    findings, path = submit(arguments.folder, options)
    show(*findings)
    broken = sum(finding.holds is False for finding in findings)
    if path is None:
        show(f"{arguments.folder}: {broken} broken rule{'s' if broken != 1 else ''}; nothing was written")
        return 1
    show(f"{path}: the entry, shown on the leaderboard beside it")
    return 0

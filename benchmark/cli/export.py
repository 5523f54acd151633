"""The ``export`` command: protected data as images and captions."""

import argparse

from benchmark.cli.flags import add_seed, add_settings, settings_of_one_poison
from benchmark.core.cache_dir import user_path
from benchmark.export.layouts import LAYOUTS
from benchmark.grid.presets import Preset

EXAMPLE = "export --attack mem3 --format imagefolder --out protected"


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """The files, and those settings of a run that decide a poison."""
    parser.add_argument(
        "--out", type=user_path, required=True, metavar="DIR", help="folder for the files; must be new or empty"
    )
    parser.add_argument(
        "--format",
        choices=LAYOUTS.group("all"),
        metavar="FORMAT",
        required=True,
        help="layout of the files. " + " ".join(f"{entry.name}: {entry.summary}" for entry in LAYOUTS.entries()),
    )
    parser.add_argument(
        "--splits",
        choices=("train", "all"),
        default="train",
        help="splits to write; all adds the clean validation and test data (default: train)",
    )
    parser.add_argument(
        "--keep-resolution",
        action="store_true",
        help="keep the size of the original images and enlarge the noise to it, which weakens it",
    )
    parser.add_argument(
        "--licence",
        metavar="SPDX",
        help="licence of images and captions, e.g. CC-BY-4.0 (default: that of the data set, if it is known)",
    )
    add_seed(parser)
    names = ["attack", "dataset", "skip_bad", "victim", "surrogate", "precision", "preset", "device", "poisons"]
    add_settings(
        parser,
        [*names, "plain_models", "checkpoint_every", "cache"],
        preset,
        meanings={
            "attack": "attack; see 'list attacks', e.g. 'mem[k=3,rounds=8]'",
            "victim": "model whose image size the poison is made for; see 'list victims', e.g. RN50",
            "checkpoint_every": "rounds of crafting between two checkpoints; 0 saves none",
        },
        metavars={"attack": "ATTACK", "victim": "MODEL"},
    )


def execute(arguments: argparse.Namespace) -> int:
    """Export; a poison that the store lacks is crafted first.

    Raises:
        UsageError: bad input, a poison that cannot be crafted, or files that cannot be written.
    """
    from benchmark.export.job import export

    export(
        settings_of_one_poison(arguments),
        arguments.out,
        arguments.format,
        command=arguments.command_line,
        splits=arguments.splits,
        keep_resolution=arguments.keep_resolution,
        licence=arguments.licence,
    )
    return 0

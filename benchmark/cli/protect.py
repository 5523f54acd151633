"""The ``protect`` command: captioned photos of one's own with noise at full size."""

import argparse

from benchmark.cli.flags import add_seed, add_settings, settings_of_one_poison
from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError
from benchmark.grid.presets import Preset

EXAMPLE = "protect photos --out protected"


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """The photos, the files, and those settings of a run that decide a poison."""
    parser.add_argument(
        "photos",
        metavar="PHOTOS",
        help="folder of photos with captions.csv, metadata.csv, captions.txt or the like, or with a .txt beside each "
        "photo; a table of captions; or a data set such as 'coco-captions[train=a.json]'",
    )
    parser.add_argument(
        "--out",
        type=user_path,
        required=True,
        metavar="DIR",
        help="folder for the protected photos; must be new or empty, unless the same command has written it",
    )
    parser.add_argument(
        "--format", choices=("jpeg", "png"), default="jpeg", help="files to write, jpeg or png (default: jpeg)"
    )
    parser.add_argument("--quality", type=int, metavar="N", help="quality of JPEG files, 1 to 100 (default: 95)")
    add_seed(parser)
    add_settings(
        parser,
        ["attack", "skip_bad", "surrogate", "precision", "preset", "device", "poisons", "checkpoint_every", "cache"],
        preset,
        defaults={"attack": "em-wordwise"},
        meanings={
            "attack": "attack whose noise repeats: em-wordwise, em-keyed, or mem-wordwise, which adds words as well",
            "skip_bad": "leave out photos that cannot be read or have no caption, and list them",
            "checkpoint_every": "rounds of crafting between two checkpoints; 0 saves none",
        },
        metavars={"attack": "ATTACK"},
    )


def execute(arguments: argparse.Namespace) -> int:
    """Protect the photos; a command that was killed goes on.

    Raises:
        UsageError: bad input, a poison that cannot be crafted, or files that cannot be written.
    """
    from benchmark.export.protect import protect

    if arguments.quality is not None and arguments.format != "jpeg":
        raise UsageError(f"--quality has no meaning with --format {arguments.format}")
    quality = 95 if arguments.quality is None else arguments.quality
    if not 1 <= quality <= 100:
        raise UsageError(f"--quality takes 1 to 100, got {quality}")
    arguments.attack = arguments.attack or "em-wordwise"
    arguments.victim = arguments.surrogate
    command = arguments.command_line
    settings = settings_of_one_poison(arguments)
    protect(settings, arguments.photos, arguments.out, kind=arguments.format, quality=quality, command=command)
    return 0

"""The ``reproduce`` command: every cell, table and figure of the supplement in one go; only missing cells run."""

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from benchmark.cli.flags import add_settings, artifact_paths
from benchmark.core.cache_dir import user_path
from benchmark.grid.presets import Preset
from benchmark.grid.settings import RunSettings

_log = logging.getLogger(__name__)

EXAMPLE = "reproduce paper --dataset 'flickr30k[root=DIR]' --dry-run"

# What the supplement shows: lengths of the trigger (Table 1), defenses on poisoned data and on clean (Table 2); and
# what it does not: noise tied to words, and the controls that tell where the poison's power sits.
GRIDS = (
    RunSettings(attack="em,mem1,mem3,mem5,mem7", defense="none"),
    RunSettings(attack="clean,mem3,em-wordwise", defense="standard"),
    RunSettings(
        attack="mem-wordwise,uniform-noise,random-trigger,same-words,trigger-only,delta-only,trigger-uniform",
        defense="none",
    ),
)
# One poison, many victims: others see what the preset's surrogate has crafted. The reference code's budget takes hours
# on a CPU, so it is the paper scale's alone.
AT_SCALE = {
    "paper": (
        RunSettings(attack="em-official,mem-official", defense="none"),
        RunSettings(attack="em,mem3", defense="none", victim="RN101,ViT-B-32,ViT-B-16"),
    ),
    "tiny": (
        RunSettings(attack="mem3,em-wordwise", defense="none", victim="tiny-vit,tiny-wide"),
        RunSettings(
            attack="em[eps=4],mem3[eps=4],em-wordwise[eps=2],em-wordwise[eps=4],em-keyed[eps=4],"
            "em-keyed[eps=4,keys=1024],mem-wordwise[eps=4],"
            "through[attack=em[eps=4],defense=crop-flip+random-noise[std=2.3]]",  # sem of half its ε
            defense="none",
        ),
        RunSettings(attack="em,em-aug,tap", defense="standard"),
        RunSettings(
            attack="clean,em,em-aug,mem3,tap,em-wordwise",
            defense="rare-prefix,tile-average,grey,orthogonal-projection,cleanclip",
        ),
        RunSettings(attack="em-keyed,mem-wordwise", defense="none,crop-flip,jpeg,prefix-drop,tile-average,cleanclip"),
        RunSettings(
            attack="em-keyed[keys=16],em-keyed[keys=1024],lsp,ar,pil,t2ue,text-hint,sem,rem",
            defense="none,crop-flip,jpeg,prefix-drop,cleanclip",
        ),
        RunSettings(attack="clean,mem-wordwise", defense="rare-prefix+tile-average"),
        RunSettings(attack="em-keyed,pil,lsp,ar", defense="orthogonal-projection"),
        RunSettings(attack="clean,em-keyed", defense="orthogonal-projection[keys=128]"),
        RunSettings(attack="clean,tap", defense="opposite-step"),
        RunSettings(attack="clean,mem3[place=end]", defense="suffix-drop"),
        RunSettings(attack="text-hint", defense="rare-prefix"),
        RunSettings(attack="t2ue,text-hint", defense="tile-average"),  # then one part of the matrix has nine attacks
        RunSettings(attack="em-keyed[keys=16],em-keyed[keys=1024]", defense="tile-average"),
        RunSettings(attack="clean,mem3,em-wordwise", defense="residual-purifier,clean-fraction,clean-start"),
        RunSettings(attack="clean,mem3,em-wordwise,mem-wordwise,uniform-noise", defense="noise-projection"),
        RunSettings(attack="sem", defense="tile-average,adv-training,residual-purifier"),
        RunSettings(attack="rem", defense="tile-average,adv-training"),
        RunSettings(attack="mem-wordwise", defense="clean-start"),
    ),
}


def add_arguments(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """The scale, and those settings that may differ from the preset's."""
    parser.add_argument("preset", choices=("paper", "tiny"), metavar="PRESET", help="scale: paper or tiny")
    parser.add_argument(
        "--out", type=user_path, metavar="DIR", help="folder for records, tables and figures (default: results/PRESET)"
    )
    where = ("device", "on", "jobs", "store", "events")
    names = ("seeds", "dataset", *where, "precision", "plain_models", "rerun", "poisons", "cache", "dry_run")
    add_settings(parser, names, preset, defaults={"seeds": "3"})


def execute(arguments: argparse.Namespace) -> int:
    """Run what is missing under ``--out``/records, then write tables, figures and the report beside it.

    What is written shows the cells of this command alone, whatever other records lie there.

    Returns:
        0 if every cell is done, 1 if one failed; tables and figures of the others are written all the same.

    Raises:
        UsageError: bad input.
    """
    from benchmark.cli.console import exit_code
    from benchmark.grid.run import run
    from benchmark.report.write_all import write_all

    out: Path = arguments.out or Path("results") / arguments.preset
    seeds = arguments.seeds or "3"
    shared = RunSettings.from_cli(argparse.Namespace(**{**vars(arguments), "out": out / "records", "seeds": seeds}))
    grids = [
        replace(shared, attack=grid.attack, defense=grid.defense, victim=grid.victim)
        for grid in (*GRIDS, *AT_SCALE[shared.preset])
    ]
    if shared.preset == "paper" and shared.dataset is None:
        _log.info("data: rendered scenes; --dataset names the paper's, e.g. 'flickr30k[root=DIR]'")
    records = run(*grids)
    if not records:
        return 0  # a dry run, or a process that has helped torchrun's first
    write_all(records, out, artifact_paths(arguments))
    return exit_code(records)

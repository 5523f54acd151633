"""The ``export`` command: one attack, one seed, as files that others train on."""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmark.core.atomic_files import require_unused
from benchmark.core.cache_dir import cache_folder
from benchmark.core.errors import UsageError, VictimDiverged
from benchmark.core.malloc import keep_freed_memory
from benchmark.core.registry import convert
from benchmark.core.seeding import use_repeatable_kernels
from benchmark.export.full_size import origins
from benchmark.export.manifest import Manifest
from benchmark.export.writing import ExportJob, write_export
from benchmark.grid.cells import (
    Cell,
    choose_attacks,
    choose_dataset,
    choose_defenses,
    choose_surrogates,
    choose_victims,
    pick_preset,
)
from benchmark.grid.poison_store import PoisonStore
from benchmark.grid.presets import PRESETS
from benchmark.grid.run import read_recipe
from victims.clip import resolve_device, resolve_precision


def export_command(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Export from the command line; a poison that the store lacks is crafted first.

    Returns:
        0.

    Raises:
        UsageError: bad input, a poison that cannot be crafted, or files that cannot be written; the folder is then
            left as it was.
    """
    require_unused(arguments.out)
    device = resolve_device(arguments.device)
    cell = _cell(arguments, device)
    cache = arguments.cache or cache_folder()
    clean = cell.dataset.source.load(cell.victim.resolution, cache)
    cell.attack.attack.check(clean.train)
    if arguments.keep_resolution:
        origins(clean.train)
    # As in a run: the poison that is crafted here is the one that a run would craft.
    use_repeatable_kernels(device)
    keep_freed_memory()
    names = ("train",) if arguments.splits == "train" else ("train", "val", "test")
    every = convert(arguments.checkpoint_every, int, "--checkpoint-every")
    if every < 0:
        raise UsageError(f"--checkpoint-every must be at least 0, got {every}")
    with PoisonStore.open(arguments.poisons, cache, every) as store:
        try:
            poison = store.get(cell, clean.train, device)
        except VictimDiverged as error:
            raise UsageError(f"{cell.attack.choice.label} cannot be crafted: {error}") from error
        source = ExportJob(cell, clean, poison, names, arguments.keep_resolution)
        manifest = write_export(arguments.out, arguments.format, source, f"python -m benchmark {shlex.join(argv)}")
    print(_summary(arguments.out, manifest), file=sys.stderr)
    return 0


def _cell(arguments: argparse.Namespace, device: torch.device) -> Cell:
    """The cell of a run whose victim trains, undefended, on what is exported."""
    preset = pick_preset(arguments.preset, PRESETS)
    *clean, attack = choose_attacks(arguments.attack, preset)
    victims = choose_victims(arguments.victim or preset.victim)
    if len(clean) > 1 or len(victims) > 1:
        raise UsageError("an export is of one attack, for one victim's resolution")
    surrogates = choose_surrogates(victims, arguments.surrogate, preset)
    given = {} if arguments.precision is None else {"precision": arguments.precision}
    recipe = read_recipe(given, preset.recipe)
    recipe = dataclasses.replace(recipe, precision=resolve_precision(device, recipe.precision))
    (victim,) = victims
    (undefended,) = choose_defenses("none", preset)
    if not 0 <= arguments.seed < 2**31:
        raise UsageError(f"--seed takes a seed from 0 to 2147483647, got {arguments.seed}")
    dataset = choose_dataset(arguments.dataset or preset.dataset, arguments.skip_bad)
    return Cell(dataset, attack, undefended, victim, surrogates[victim], recipe, arguments.seed)


def _summary(folder: Path, manifest: Manifest) -> str:
    counts = ", ".join(f"{facts.images:,} {name}" for name, facts in manifest.splits.items())
    psnr, ssim = manifest.noise["psnr"], manifest.noise["ssim"]
    noise = "no noise" if psnr is None else f"ε = {manifest.eps}/255, PSNR {psnr:.1f} dB, SSIM {ssim:.3f}"
    size = f"{manifest.resolution} px"
    if manifest.full_size is not None:
        size = f"original size; read at {size}, {manifest.full_size['share']:.0%} of the noise is left"
    return f"wrote {folder}: {counts} images ({size}), {manifest.attack['label']}, {noise}"

"""Exports of made-up poisons, without crafting any."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attacks.poison import Poison
from benchmark.data import CaptionDataset, DatasetSource, Splits
from benchmark.export.writing import ExportJob, write_export
from benchmark.grid.cells import Cell
from benchmark.grid.choices import choose_attacks, choose_dataset, choose_defenses
from benchmark.grid.presets import PRESETS
from tests.small import make_dataset
from victims.architecture import Architecture

EPS = 4
ALL = ("train", "val", "test")
# Each with what breaks lines, tables or readers, or what the tokenizer sees differently line by line.
NASTY = (
    "two\nlines and\r\na third",
    'a "quoted" dog, with commas; and a tab\there',
    "nul\x00byte, bell \x07 and \x1b[31mred\x1b[0m",
    "next\x85line, sep\u2028arator, \x93quoted\x94",
    "\ufeffmark in front  and   blanks behind   ",
    "NA",
    "schÃ¶n\nund â€™ gut &amp;lt;b&gt; x",
    "日本語 🐕 naïve",
)


def make_splits(nasty: bool = False, resolution: int = 16, images: int = 5) -> Splits:
    """Three splits of random images; nasty ones have captions that are hard to write down."""
    splits = {}
    for number, name in enumerate(ALL):
        data = replace(make_dataset(images, 2, resolution, seed=number), split=name)
        if nasty:
            extra = [[NASTY[i % len(NASTY)], NASTY[(i + 3) % len(NASTY)]] for i in range(images)]
            data = replace(data, captions=[plain + hard for plain, hard in zip(data.captions, extra, strict=True)])
        splits[name] = data
    return Splits(splits["train"], splits["val"], splits["test"])


def make_poison(train: CaptionDataset, per_row: bool = False, eps: int = EPS) -> Poison:
    """Random noise up to ε and two words for each image or pair."""
    base = train.by_row() if per_row else train
    rng = np.random.default_rng(3)
    delta = rng.integers(-eps, eps + 1, size=base.images.shape, dtype=np.int8)
    words = ("red", "dog", "tree", "moon", "boat")
    trigger = [" ".join(rng.choice(words, 2)) for _ in range(len(base))]
    return Poison(delta, trigger, eps, train.fingerprint, per_row, {"seed": 7})


def make_source(clean: Splits, poison: Poison, names: tuple[str, ...] = ALL) -> ExportJob:
    """What the command would export of a MEM-3 poison."""
    preset = PRESETS["tiny"]
    _, attack = choose_attacks("mem3", preset)
    tiny = Architecture("tiny")
    cell = Cell(choose_dataset("scenes"), attack, choose_defenses("none", preset)[0], tiny, tiny, preset.recipe, 7)
    return ExportJob(cell, clean, poison, names, full_size=False)


def export(folder: Path, layout: str, names: tuple[str, ...] = ALL, per_row: bool = False) -> ExportJob:
    """Write a small export and say what it is of."""
    clean = make_splits()
    source = make_source(clean, make_poison(clean.train, per_row), names)
    write_export(folder, layout, source, "python -m benchmark export …")
    return source


@dataclass(frozen=True)
class Ready(DatasetSource):
    """Splits as a data set that need not be read."""

    splits: Splits

    def load(self, resolution: int, cache: Path) -> Splits:
        return self.splits

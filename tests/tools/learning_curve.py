"""Recall against operations: ``python -m tests.tools.learning_curve results/regime/learning``.

Reads the clean victims under FOLDER/records, which differ in their optimizer and epochs, prints a table and draws
FOLDER/learning.png. Operations are those of the training steps and of the optimizer's matrix products, counted as in
:mod:`tests.benchmarks.flops`.
"""

import sys
from collections import defaultdict
from dataclasses import fields
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tabulate import tabulate

from benchmark.core.cache_dir import cache_folder
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS
from benchmark.figures.style import BLUE, ORANGE, WIDTH, styled
from benchmark.grid.records import Record, load_records
from tests.benchmarks.flops import Flops, optimizer_step
from tests.tools.default_command import longest_of_batch
from victims.architecture import Architecture
from victims.recipe import Recipe

NAMES = {"adamw": "AdamW", "muon": "Muon"}


def tera_operations(record: Record) -> float:
    """Operations of a victim's training, 10¹², its optimizer's among them."""
    train = DATASETS.build(parse_spec(record.dataset.spec)).for_seed(record.seed)
    images = train.load(Architecture(record.victim.spec).resolution, cache_folder()).train
    batch, epochs = record.recipe["batch_size"], record.recipe["epochs"]
    steps = len(images) // batch * epochs
    passes = batch * Flops(record.victim.spec).training(longest_of_batch(images, batch))
    known = {field.name for field in fields(Recipe)}
    recipe = Recipe(**{key: value for key, value in record.recipe.items() if key in known})
    return steps * (passes + optimizer_step(record.victim.spec, recipe)) / 1e12


def draw(curves: dict[str, list[tuple[float, list[float]]]]) -> Figure:
    """Mean recall against operations, a line for each optimizer; bars go from the lowest to the highest seed."""
    with styled():
        figure = Figure(figsize=(WIDTH * 0.6, 2.8), layout="constrained")
        axes = figure.subplots()
        for (name, points), colour in zip(sorted(curves.items()), (ORANGE, BLUE), strict=False):
            at, values = zip(*sorted(points), strict=True)
            mean = [np.mean(value) for value in values]
            ends = [
                [m - min(v) for m, v in zip(mean, values, strict=True)],
                [max(v) - m for m, v in zip(mean, values, strict=True)],
            ]
            axes.errorbar(at, mean, yerr=ends, marker="o", color=colour, capsize=2, label=NAMES[name])
        axes.set(xlabel="operations of the training (TFLOP)", ylabel="clean R@10 (%)")
        axes.set_ylim(0, 100)
        axes.legend(loc="lower right")
    return figure


def main(folder: Path) -> None:
    """Print the table and draw the figure of one folder."""
    groups: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in load_records(folder / "records"):
        groups[record.recipe["optimizer"], record.recipe["epochs"]].append(record)
    rows, curves = [], defaultdict(list)
    for (optimizer, epochs), records in sorted(groups.items()):
        recalls = [record.last.test.mean_recall_at_10 for record in records]
        first = [record.last.test.image_to_text.recall_at_1 for record in records]
        cost = tera_operations(records[0])
        curves[optimizer].append((cost, recalls))
        spread = f"{np.mean(recalls):.1f}±{np.std(recalls, ddof=1):.1f}"
        rows.append((NAMES[optimizer], epochs, f"{cost:.1f}", spread, f"{np.mean(first):.1f}", len(records)))
    headers = ("Optimizer", "Epochs", "TFLOP", "R@10", "R@1 I→T", "seeds")
    print(tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=("left", *["right"] * 5)))
    draw(curves).savefig(folder / "learning.png", dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

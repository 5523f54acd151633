"""How long a grid of the paper's scale takes on many GPUs, simulated: ``python -m tests.tools.scaling``.

The suite's own planner says which poisons and victims there are and in which order they begin; each free GPU takes the
first that can. Their times come from single steps that were measured on a CPU (a page of ``results/benchmarks``),
divided by one number: how many times as fast a GPU does a victim's step. That number is an assumption, from the card's
peak and the share of it that is reached; ``--rows-per-second`` replaces it by what you have measured.

Flags that are not of this tool are those of ``run``, e.g. ``--attack mem3 --defense table2 --seeds 3``. Left out are
decoding of data, caption augmentation, evaluation, and the transfer of files.
"""

import argparse
import json
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from attacks.mem import Mem
from benchmark.cli.main import build_parser
from benchmark.core.errors import UsageError
from benchmark.core.schedule import Job, seconds_until_done
from benchmark.core.time_left import Task
from benchmark.data import CaptionDataset, DatasetSource, Splits
from benchmark.grid.cells import ChosenDataset
from benchmark.grid.choices import cells_of
from benchmark.grid.poison_store import PoisonStore
from benchmark.grid.records import EpochScores, ResolvedSpec
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import RunSettings
from benchmark.grid.units import Unit, longest_first, units_of
from benchmark.metrics import Retrieval, RetrievalScores
from defenses import DEFENSES
from defenses.adv_training import AdvTraining
from defenses.base import Composed
from tests.benchmarks.flops import Flops
from tests.benchmarks.hours import ADVERSARIAL_STEPS
from victims.training import steps_per_epoch

PAGE = Path("results/benchmarks/amd-epyc.md")
MODEL = "RN50"
TIMED_K = 3
"""Words of the trigger whose HotFlip pass was timed."""
FULL_MATRIX = ["--attack", "clean,em,mem1,mem3,mem5,mem7", "--defense", "standard", "--seeds", "5"]
SIZES = "29000,1014,1000"
CAPTIONS = 5
_BYTES_PER_WEIGHT = 12  # fp32, with AdamW's two moments
_NOWHERE = Path("nowhere")
_LINE = 120  # characters, as in all pages of docs


@dataclass(frozen=True)
class Stages:
    """Measured seconds of single steps.

    Attributes:
        seconds_per_row: by stage.
        flop_per_row: operations of a victim's step on one row.
    """

    seconds_per_row: Mapping[str, float]
    flop_per_row: float

    @classmethod
    def read(cls, page: Path) -> "Stages":
        """The stages of the large model on a page of ``tests/tools/speed_table.py``."""
        found = {}
        for line in page.read_text("utf-8").splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) == 8 and re.match(rf"{MODEL}, \d+ px$", cells[1]):
                found[cells[0]] = float(cells[4].replace(",", "")) / 1e3, float(cells[6].replace(",", "")) * 1e9
        seconds, rate = found["victim step"]
        return cls({stage: own for stage, (own, _) in found.items()}, seconds * rate)

    def on(self, rows_per_second: float) -> Mapping[str, float]:
        """The same on a machine that does so many rows of a victim's step in a second, and all stages in proportion."""
        faster = rows_per_second * self.seconds_per_row["victim step"]
        return {stage: seconds / faster for stage, seconds in self.seconds_per_row.items()}


@dataclass(frozen=True)
class SizedData(DatasetSource):
    """A data set of some size without pixels or words, for a planner that looks at sizes alone.

    Args:
        sizes: images of each split.
    """

    sizes: tuple[int, ...]

    def load(self, resolution: int, cache: Path) -> Splits:
        """So many images of each split, of five captions each."""

        def split(name: str, count: int) -> CaptionDataset:
            pixels = np.broadcast_to(np.uint8(0), (count, 3, resolution, resolution))
            made = CaptionDataset("sized", name, pixels, [["caption"] * CAPTIONS] * count)
            vars(made)["fingerprint"] = f"{name} of {count} images"  # the real one would read gigabytes of zeros
            return made

        train, val, test = self.sizes
        return Splits(split("train", train), split("val", val), split("test", test))


def units(flags: Sequence[str], sizes: Sequence[int], seconds: Mapping[str, float]) -> tuple[list[Unit], list[Job]]:
    """The units of a grid of preset ``paper`` in the order in which they begin, and as jobs with their seconds.

    Args:
        flags: of ``run``.
        sizes: images of the train, val and test split.
        seconds: per row, by stage.

    Raises:
        UsageError: a victim, attack or defense whose steps were not timed.
    """
    words = ["run", "--preset", "paper", *flags]
    settings = RunSettings.from_cli(build_parser(words).parse_args(words))
    source = SizedData(tuple(sizes))
    chosen = ChosenDataset(source, ResolvedSpec("flickr30k", "Flickr30K"))
    cells = cells_of(settings, torch.device("cpu"), chosen)
    splits = source.load(cells[0].victim.resolution, Path())
    grid = Grid(
        cells,
        {(cell.seed, cell.victim.resolution): splits for cell in cells},
        _NOWHERE,
        PoisonStore(_NOWHERE),
        torch.device("cpu"),
        {"command": settings.to_command(), "preset": settings.preset, "processes": 1},
        settings.checkpoint_every,
    )
    planned = grid.plan()
    tasks: dict[str, Task] = {}
    for one in planned:
        tasks[one.key] = Task("train", np.array([training_seconds(one, splits.train, seconds)]))
        if one.poison is not None and str(one.poison) not in tasks:
            tasks[str(one.poison)] = Task("craft", np.array([crafting_seconds(one, splits.train, seconds)]))
    # As on a cluster whose machines nothing has been timed on.
    ordered = longest_first(units_of(planned, "missing"), {})
    return ordered, [Job(unit.name, tasks[unit.name].cost, unit.needs) for unit in ordered]


def training_seconds(one: PlannedCell, train: CaptionDataset, seconds: Mapping[str, float]) -> float:
    """Seconds of a victim's steps. All defenses of the group ``standard`` but adversarial training count as plain."""
    defense, recipe = one.cell.defense.defense, one.cell.recipe
    names = set(one.cell.defense.choice.params)
    if one.cell.victim.name != MODEL or isinstance(defense, Composed) or not names <= _plain():
        raise UsageError(f"no step was timed of {one.cell.title()}")
    a_row = seconds["victim step"]
    if isinstance(defense, AdvTraining):
        pgd = (seconds["adversarial victim step"] - a_row) / ADVERSARIAL_STEPS
        a_row += (1 - defense.start) * defense.steps * pgd
    return steps_per_epoch(train, recipe) * recipe.batch_size * recipe.epochs * a_row


def crafting_seconds(one: PlannedCell, train: CaptionDataset, seconds: Mapping[str, float]) -> float:
    """Seconds of an attack's steps, by their kinds."""
    attack = one.cell.attack.attack
    if not isinstance(attack, Mem) or one.cell.surrogate.name != MODEL:
        raise UsageError(f"no step was timed of crafting {one.cell.attack.choice.title}")
    surrogate, hotflip = seconds["surrogate step"], seconds["HotFlip pass"]
    pgd = seconds["crafting round"] - surrogate - hotflip
    a_row = {"surrogate": surrogate, "PGD": pgd, "HotFlip": pgd + hotflip * attack.k / TIMED_K}
    kinds = Counter(attack.step_kinds(train))
    return sum(count * attack.batch_size * a_row[kind] for kind, count in kinds.items())


@cache
def _plain() -> frozenset[str]:
    """Defenses whose steps take as long as those of none, or, for adversarial training, are counted."""
    return frozenset({"none", *DEFENSES.group("standard")})


@cache
def _flops() -> Flops:
    return Flops(MODEL)


def idle_share(jobs: Sequence[Job], gpus: int, wall: float) -> float:
    """The share of the time of all GPUs, until the last job ends, in which they have nothing to do."""
    return 1 - sum(job.seconds for job in jobs) / (gpus * wall)


def longest_chain(jobs: Sequence[Job]) -> float:
    """Seconds that the grid takes on any number of GPUs: the longest poison with a victim that waits for it."""
    alone = {job.name: job.seconds for job in jobs}
    return max(job.seconds + (alone[job.needs] if job.needs else 0.0) for job in jobs)


def traffic(units: Sequence[Unit], sizes: Sequence[int], nodes: int, checkpoint_every: int) -> dict[str, float]:
    """Bytes that go to a store and come from it, and those of records, which go to the process of the command.

    Poisons are written once, and read once by every node that trains a victim on them: at most as many as there are
    victims. Checkpoints are written by every epoch and crafting round but the last, and read after a death only.
    """
    victims = [unit for unit in units if not unit.crafts]
    noise = sizes[0] * 3 * victims[0].planned.cell.victim.resolution ** 2
    weights = _BYTES_PER_WEIGHT * _flops().parameters
    poisons = [unit for unit in units if unit.crafts]
    on_each = Counter(unit.needs for unit in victims if unit.needs)

    def kept(rounds: int) -> int:
        return (rounds - 1) // checkpoint_every if checkpoint_every else 0

    rounds = [unit.planned.cell.attack.attack.rounds for unit in poisons]  # type: ignore[attr-defined]
    return {
        "poisons written": noise * len(poisons),
        "poisons read, at most": noise * sum(min(nodes, on_each[unit.name]) for unit in poisons),
        "checkpoints of crafting": (noise + weights) * sum(map(kept, rounds)),
        "checkpoints of training": weights * sum(kept(unit.planned.cell.recipe.epochs) for unit in victims),
        "records": len(victims) * _record_bytes(victims[0].planned),
    }


def _record_bytes(one: PlannedCell) -> int:
    direction = RetrievalScores(*[12.345678901234567] * 5)
    both = Retrieval(direction, direction)
    epochs = tuple(EpochScores(epoch + 1, both, both, both) for epoch in range(one.cell.recipe.epochs))
    record = replace(one.planned_record, epochs=epochs, loss=(1.2345678901234567,) * len(epochs))
    return len(json.dumps(record.content()))


def page(flags: Sequence[str], asked: argparse.Namespace) -> str:
    """The simulation in Markdown: what was assumed, hours, cost and idle share by GPUs, the store's traffic."""
    stages, sizes = Stages.read(asked.stages), [int(size) for size in asked.sizes.split(",")]
    reached = asked.peak * 1e12 * asked.utilisation
    rate = asked.rows_per_second or reached / stages.flop_per_row
    ordered, jobs = units(flags, sizes, stages.on(rate))
    busy, crafts = sum(job.seconds for job in jobs), sum(unit.crafts for unit in ordered)
    rows, moved = [], dict[str, float]()
    for gpus in [int(count) for count in asked.gpus.split(",")]:
        wall, nodes = seconds_until_done(jobs, {}, gpus), -(-gpus // asked.gpus_per_node)
        paid = gpus * wall / 3600
        moved = traffic(ordered, sizes, nodes, asked.checkpoint_every)
        through = sum(moved.values()) - moved["records"]
        rows.append(
            [
                gpus,
                f"{wall / 3600:,.1f}",
                f"{paid:,.0f}",
                f"{paid * asked.price:,.0f}",
                f"{idle_share(jobs, gpus, wall):.0%}",
                f"{through / 1e12:,.1f}",
                f"{through / wall / 1e6:,.0f}",
            ]
        )
    share = f"{asked.utilisation:.0%} of a peak of {asked.peak:g} TFLOP/s"
    summary = (
        f"`run --preset paper {' '.join(flags)}`: {len(ordered) - crafts:,} victims and {crafts:,} poisons of "
        f"{sizes[0]:,} images. One GPU does {rate:,.0f} rows of a victim's step in a second "
        f"({'as given' if asked.rows_per_second else share}); an hour of it costs {asked.price:g}. "
        f"All GPUs together work {busy / 3600:,.0f} hours. The longest poison with its victim takes "
        f"{longest_chain(jobs) / 3600:,.1f} hours, on however many GPUs."
    )
    lines = [
        textwrap.fill(summary, _LINE, break_long_words=False, break_on_hyphens=False),
        "",
        tabulate(
            rows,
            ("GPUs", "hours", "GPU hours paid", "cost", "idle", "store, TB", "store, MB/s"),
            tablefmt="pipe",
            disable_numparse=True,
            colalign=["right"] * 7,
        ),
        "",
        f"Of the store's traffic with {rows[-1][0]} GPUs:",
        "",
        tabulate(
            [[what, f"{count / 1e9:,.3f}" if count < 1e9 else f"{count / 1e9:,.0f}"] for what, count in moved.items()],
            ("what", "GB"),
            tablefmt="pipe",
            disable_numparse=True,
            colalign=("left", "right"),
        ),
    ]
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    """The tool's own flags."""
    # Flags of run go past this parser: none of them may be taken for an abbreviation of its own.
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add: Any = made.add_argument
    add("--gpus", default="8,64,512", help="numbers of GPUs (default: %(default)s)")
    add("--gpus-per-node", type=int, default=8, help="(default: %(default)s)")
    add("--peak", type=float, default=312.0, help="TFLOP/s of a GPU in bf16 (default: %(default)s)")
    add("--utilisation", type=float, default=0.2, help="share of the peak that is reached (default: %(default)s)")
    add("--rows-per-second", type=float, help="of a victim's step, in place of the two")
    add("--price", type=float, default=2.0, help="of an hour of a GPU (default: %(default)s)")
    add("--sizes", default=SIZES, help="images of train, val and test (default: %(default)s)")
    add("--stages", type=Path, default=PAGE, help="page of measured steps (default: %(default)s)")
    add("--checkpoint-every", type=int, default=1, help="as of run (default: %(default)s)")
    return made


if __name__ == "__main__":
    own, of_run = parser().parse_known_args()
    print(page(of_run or FULL_MATRIX, own), end="")

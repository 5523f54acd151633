"""Figures 1 and 2: training loss and test median rank after every epoch, a line for each attack."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.figures.style import (
    FAINT,
    LEGEND_LETTERS,
    LEGEND_SAMPLE,
    WIDTH,
    Look,
    heading,
    in_lines,
    legend_below,
    looks,
    named,
    styled,
    told_apart,
)
from benchmark.grid.records import Record
from benchmark.tables.attacks import CONTROLS
from benchmark.tables.chance import of_dataset
from benchmark.tables.lengths import is_mem
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, blocks
from benchmark.tables.table import DIRECTIONS

_MOST_BANDS = 9  # more would hide each other


def curves(records: Iterable[Record]) -> dict[str, Figure]:
    """For each data set and victim up to three figures: EM and MEM, the controls beside MEM-3, other attacks beside it.

    All show clean data. Lines are means over seeds, bands go from the lowest to the highest seed. A figure of more than
    nine lines has no bands.

    Args:
        records: of any runs; defended and failed ones are left out.

    Returns:
        Figures by file name.

    Raises:
        UsageError: no undefended victim is done, or records that mix settings.
    """
    done = [record for record in records if record.defense.spec == UNDEFENDED and record.status == "done"]
    if not done:
        raise UsageError("these records hold no undefended victim that is done; the curves need one")
    found = told_apart(blocks(done))
    figures = {}
    for block in found:
        others = [attack.spec for attack in block.attacks if not is_mem(attack.spec)]
        usual = [attack.spec for attack in block.attacks if attack.spec not in others]
        clean = [CLEAN] if block.of(CLEAN) else []
        beside = ["mem3"] if "mem3" in usual else []
        if usual != beside or not others:  # else the others' figures show all of it
            figures[named("curves", block, found)] = _draw(block, [*clean, *usual])
        for name, is_control in (("curves-controls", True), ("curves-others", False)):
            if own := [spec for spec in others if (parse_spec(spec).name in CONTROLS) == is_control]:
                figures[named(name, block, found)] = _draw(block, [*clean, *beside, *own])
    return figures


def _draw(block: Block, specs: Sequence[str]) -> Figure:
    with styled():
        figure = Figure(figsize=(WIDTH, 2.75), layout="constrained")
        loss, *ranks = figure.subplots(1, 3)
        ranks[1].sharey(ranks[0])
        styles, with_bands = looks(specs), len(specs) <= _MOST_BANDS
        counts = {len(block.of(spec)) for spec in specs}
        # Many lines: a legend of two columns.
        letters = LEGEND_LETTERS if with_bands else LEGEND_LETTERS // 2 - LEGEND_SAMPLE
        for spec in specs:
            own = block.of(spec)
            seeds = "" if len(counts) == 1 else f" ({len(own)} seed{'s' if len(own) > 1 else ''})"
            label = in_lines(own[0].attack.title + seeds, letters, 2)
            # Records of older versions may lack it.
            epochs_told = max(len(record.loss) for record in own)
            losses = [record.loss for record in own if len(record.loss) == epochs_told]
            _line(loss, range(1, epochs_told + 1), losses, styles[spec], label, with_band=with_bands)
            evaluated = [[scores.epoch for scores in record.epochs] for record in own]
            epochs = max(evaluated, key=len)
            alike = [record for record, their in zip(own, evaluated, strict=True) if their == epochs]
            for axes, field in zip(ranks, DIRECTIONS.values(), strict=True):
                values = [[getattr(s.test, field).median_rank for s in record.epochs] for record in alike]
                _line(axes, epochs, values, styles[spec], label, with_band=with_bands)
        loss.set(title="Training loss", ylabel="InfoNCE (nats)", xlabel="epoch")
        loss.set_ylim(bottom=0)
        for axes, direction in zip(ranks, DIRECTIONS, strict=True):
            axes.set(title=f"Test median rank, {direction}", xlabel="epoch", yscale="log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        handles, labels = loss.get_legend_handles_labels()
        handles, labels = [*handles, _chance(block.records[0], ranks)], [*labels, "chance"]
        ranks[0].invert_yaxis()  # of both, which share it
        ranks[0].set_ylabel("rank (log scale; up is better)")
        for axes in (loss, *ranks):
            if len(block.records[0].epochs) == 1:
                axes.set_xlim(0, 1.05 * block.records[0].last.epoch)  # a single point would be the whole axis
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        legend_below(figure, handles, labels)
        number = f"{min(counts)} " if len(counts) == 1 else ""
        spread = "; one seed" if counts == {1} else f"; line: mean over {number}seeds"
        spread += ", band: lowest to highest seed" if counts != {1} and with_bands else ""
        heading(figure, f"{block.dataset.label}, victim {block.victim.spec}, undefended{spread}")
        return figure


def _line(
    axes: Axes, epochs: Iterable[int], values: Sequence[Sequence[float]], look: Look, label: str, *, with_band: bool
) -> None:
    """Mean over seeds as a line, lowest to highest as a band if it is wanted; ``values`` are (seeds, epochs)."""
    x = list(epochs)
    y: NDArray[np.float64] = np.array(values)
    axes.plot(x, y.mean(axis=0), **look._asdict(), label=label, markevery=max(1, len(x) // 6))
    if len(y) > 1 and with_band:
        axes.fill_between(x, y.min(axis=0), y.max(axis=0), color=look.color, alpha=0.15, linewidth=0)


def _chance(record: Record, ranks: Sequence[Axes]) -> Line2D:
    """The median rank of a random ranking."""
    lines = [
        axes.axhline(level.median_rank, color=FAINT, linestyle=(0, (1, 3)), linewidth=1.2)
        for axes, level in zip(ranks, of_dataset(record.dataset.params), strict=True)
    ]
    return lines[0]

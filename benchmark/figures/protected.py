"""Recall against the share of the training data that is protected."""

from collections.abc import Iterable, Mapping

from matplotlib.figure import Figure

from benchmark.core.errors import UsageError
from benchmark.figures.style import (
    WIDTH,
    about,
    clean_line,
    heading,
    legend_below,
    looks,
    named,
    styled,
    told_apart,
    whiskers,
)
from benchmark.grid.records import Record
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, blocks

MIXED = "clean-fraction"
"""The defense whose data are clean in part; see :class:`defenses.clean_fraction.CleanPairs`."""


def protected(records: Iterable[Record]) -> dict[str, Figure]:
    """A figure for each data set and victim: R@10 after the last epoch over the share that is protected.

    A line for each attack, from clean data at 0 % to all of it at 100 %; points are means over seeds of both
    directions' mean, bars one sample standard deviation to either side.

    Args:
        records: of any runs; those of other defenses and failed ones are left out.

    Returns:
        Figures by file name.

    Raises:
        UsageError: no attack has protected a part of the data, or records that mix settings.
    """
    done = [record for record in records if record.status == "done" and protected_share(record) is not None]
    found = [block for block in told_apart(blocks(done) if done else []) if _parts(block)]
    if not found:
        raise UsageError("these records hold no attack that protects a part of the data; run with --protected")
    return {named("protected", block, found): _draw(block) for block in found}


def protected_share(record: Record) -> float | None:
    """The share of a record's training images that is protected, from 0 to 1; ``None`` under any other defense."""
    if record.attack.spec == CLEAN:
        return 0.0 if record.defense.spec == UNDEFENDED else None
    if record.defense.spec == UNDEFENDED:
        return 1.0
    params = record.defense.params.get(MIXED)
    if not isinstance(params, Mapping):
        return None
    alone, share = list(record.defense.params) == [MIXED], params.get("share")
    return 1 - share if alone and isinstance(share, int | float) and not params.get("first") else None


def _parts(block: Block) -> bool:
    return any(0 < (protected_share(record) or 0) < 1 for record in block.records)


def _draw(block: Block) -> Figure:
    partly = [attack for attack in block.attacks if any(protected_share(r) != 1 for r in block.of(attack.spec))]
    styles = looks(attack.spec for attack in partly)
    with styled():
        figure = Figure(figsize=(WIDTH * 0.65, 2.73), layout="constrained")
        axes = figure.subplots()
        for attack in partly:
            recalls: dict[float, list[float]] = {}
            for record in [*block.of(CLEAN, UNDEFENDED), *block.of(attack.spec)]:
                share = protected_share(record)
                assert share is not None
                recalls.setdefault(100 * share, []).append(record.last.test.mean_recall_at_10)
            whiskers(axes, dict(sorted(recalls.items())), attack.title, styles[attack.spec])
        clean_line(axes, block.of(CLEAN, UNDEFENDED))
        axes.set(xlabel="protected images, %", ylabel="R@10, %, mean of both directions", xlim=(-3, 103), ylim=(0, 100))
        legend_below(figure, *axes.get_legend_handles_labels())
        heading(figure, about(block))
        return figure

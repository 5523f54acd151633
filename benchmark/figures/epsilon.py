"""Recall, and how much of an image is left as it was, against the bound on the noise."""

import re
from collections.abc import Iterable

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
from benchmark.grid.records import Record, ResolvedSpec
from benchmark.tables.gates import by_eps
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, blocks


def epsilon(records: Iterable[Record]) -> dict[str, Figure]:
    """A figure for each data set and victim: R@10 after the last epoch, and SSIM, over ε in 1/255.

    A line for each attack that ran with several ε; points are means over seeds, of R@10 over both directions, too; bars
    are one sample standard deviation to either side.

    Args:
        records: of any runs; defended and failed ones are left out.

    Returns:
        Figures by file name.

    Raises:
        UsageError: no attack has several ε, or records that mix settings.
    """
    done = [record for record in records if record.defense.spec == UNDEFENDED and record.status == "done"]
    found = [block for block in told_apart(blocks(done) if done else []) if _families(block)]
    if not found:
        raise UsageError(
            "these records hold no undefended attack with several ε; run 'mem3[eps=4]', say, beside 'mem3'"
        )
    return {named("epsilon", block, found): _draw(block) for block in found}


def _families(block: Block) -> dict[str, dict[float, ResolvedSpec]]:
    """Attacks with several ε, each at all of them, by the name that tells it from the others."""
    families = {}
    for attack in block.attacks:
        family = by_eps(block, attack)
        if len(family) > 1:
            usual = next((one for one in family.values() if not re.search(r"\beps=", one.spec)), family[max(family)])
            families[usual.spec] = family
    return families


def _draw(block: Block) -> Figure:
    families = _families(block)
    styles = looks(families)
    with styled():
        figure = Figure(figsize=(WIDTH, 2.73), layout="constrained")
        recall, similarity = figure.subplots(1, 2)
        for spec, family in families.items():
            title = next(one.title for one in family.values() if one.spec == spec)
            of_eps = {eps: block.of(one.spec) for eps, one in family.items()}
            recalls = {eps: [record.last.test.mean_recall_at_10 for record in own] for eps, own in of_eps.items()}
            likeness = {
                eps: [record.poison["ssim"] for record in own if record.poison.get("ssim")]
                for eps, own in of_eps.items()
            }
            whiskers(recall, recalls, title, styles[spec])
            whiskers(similarity, likeness, title, styles[spec])
        clean_line(recall, block.of(CLEAN))
        ticks = sorted({eps for family in families.values() for eps in family})
        for axes in (recall, similarity):
            axes.set(xlabel="ε, 1/255", xlim=(0, max(ticks) * 1.05), xticks=ticks)
        recall.set(ylabel="mean R@10 of both\ndirections, %", ylim=(0, 100))
        similarity.set(ylabel="SSIM with the\noriginal images")
        legend_below(figure, *recall.get_legend_handles_labels())
        heading(figure, about(block))
        return figure

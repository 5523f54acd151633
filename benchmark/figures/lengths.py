"""Recall against the length of the text trigger, the paper's beside ours (Table 1)."""

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmark.core.errors import UsageError
from benchmark.figures.style import BLUE, INK, ORANGE, WIDTH, about, heading, named, styled, told_apart
from benchmark.grid.records import Record
from benchmark.tables.lengths import LENGTHS, by_length
from benchmark.tables.published import published
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, blocks
from benchmark.tables.table import DIRECTIONS, measure, observe, summarise


def lengths(records: Iterable[Record]) -> dict[str, Figure]:
    """A figure for each data set and victim: R@10 after the last epoch over k, EM being k = 0.

    A victim with a single length has none where others have several.

    Points are means over seeds, bars one sample standard deviation to either side; on a log scale, as recall under
    attack is a few percent beside tens on clean data, unless a mean is 0, which such a scale has no place for. A line
    joins the lengths that had one budget: where EM's is its own, its point stands alone.

    Args:
        records: of any runs; defended and failed ones are left out.

    Returns:
        Figures by file name.

    Raises:
        UsageError: no undefended EM or MEM victim is done, or records that mix settings.
    """
    done = [record for record in records if record.defense.spec == UNDEFENDED and record.status == "done"]
    found = [block for block in told_apart(blocks(done) if done else []) if by_length(block)]
    if not found:
        raise UsageError("these records hold no undefended em or mem attack that is done; the figure needs one")
    # One length makes no curve; where others have several, it is left to the tables.
    found = [block for block in found if len(by_length(block)) > 1] or found
    return {named("lengths", block, found): _draw(block) for block in found}


def _draw(block: Block) -> Figure:
    attacks = by_length(block)
    specs = {attack.spec: k for k, attack in attacks.items()}
    budgets = {k: {key: value for key, value in attack.params.items() if key != "k"} for k, attack in attacks.items()}
    joined = [k for k in budgets if budgets[k] == budgets[max(budgets)]]
    paper = {int(row["attack"].removeprefix("MEM-")): row for row in published(1)["rows"]}
    clean = next(row for row in published(2)["rows"] if row["attack"] == "Clean")
    ours = [record for record in block.records if record.attack.spec in (CLEAN, *specs)]
    means = {
        direction: summarise(observe(r, r.attack.spec, direction, measure("R@10", direction)) for r in ours)
        for direction in DIRECTIONS
    }
    with_zero = any((cells["mean"] == 0).any() for cells in means.values())
    with styled():
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        panels: list[Axes] = list(figure.subplots(1, 2, sharey=True))
        for axes, (direction, cells) in zip(panels, means.items(), strict=True):
            one = measure("R@10", direction)
            attacked = cells[cells["attack"].isin(specs)].assign(k=lambda found: found["attack"].map(specs))
            attacked = attacked.sort_values("k")
            of_joined = attacked["k"].isin(joined)
            alone = [attacked[attacked["k"] == k] for k in attacked["k"][~of_joined]]
            for shown in (attacked[of_joined], *alone):
                axes.errorbar(
                    shown["k"], shown["mean"], yerr=shown["std"], color=BLUE, marker="o", capsize=3,
                    label="ours" if shown["k"].isin(joined).all() else None,
                )  # fmt: skip
            axes.plot(
                list(paper), [row[one.name] for row in paper.values()], color=ORANGE, marker="s", mfc="white",
                linestyle=(0, (5, 2)), label="paper",
            )  # fmt: skip
            own = cells[cells["attack"] == CLEAN]
            if len(own):
                axes.axhline(float(own["mean"].iloc[0]), color=INK, linewidth=1.2, label="ours, clean data")
            axes.axhline(
                clean[one.name], color=ORANGE, linewidth=1.2, linestyle=(0, (1, 1.5)), label="paper, clean data"
            )
            axes.set(title=direction, xlabel="k, words of the trigger (0: EM)")
            axes.set_xticks(sorted({*LENGTHS, *specs.values()}))
            axes.set_xlim(-0.5, max(*LENGTHS, *specs.values()) + 0.5)
            if not with_zero:
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.yaxis.set_minor_formatter(NullFormatter())
        panels[0].set_ylabel("R@10, %" if with_zero else "R@10, % (log scale)")
        handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
        labels = [label for label in ("ours", "ours, clean data", "paper", "paper, clean data") if label in handles]
        figure.legend([handles[label] for label in labels], labels, loc="outside lower center", ncols=4, handlelength=3)
        setting = published(1)["setting"].partition(";")[0]
        heading(figure, f"ours: {about(block)}; paper: {setting}")
        return figure

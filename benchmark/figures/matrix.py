"""The matrix attack × defense as a heat map."""

from collections.abc import Iterable
from math import isnan

from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmark.figures.style import BLUE, FAINT, INK, WIDTH, heading, named, styled
from benchmark.grid.records import Record
from benchmark.tables.chance import near_chance
from benchmark.tables.matrix import CLEAN_ROW
from benchmark.tables.matrix import matrix as make_matrix
from benchmark.tables.render import shown
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, blocks
from benchmark.tables.shares import LOST
from benchmark.tables.table import Table

_RECOVERED: Colormap = LinearSegmentedColormap.from_list("recovered", ["#ffffff", BLUE])
_BESIDE: Colormap = LinearSegmentedColormap.from_list("beside", ["#ffffff", FAINT])
_NOT_RUN = "#f0f0f0"
_GAP = 0.25  # between the recovered shares and what stands beside them, in cells
_LIGHT = 55  # percent from which text is white on blue


def matrix(records: Iterable[Record]) -> dict[str, Figure]:
    """A figure for each data set and victim: the share of the lost recall that each defense recovers.

    Blue: the recovered share, from 0 (white) to 100 %; grey: what each attack takes, and what each defense leaves of
    clean data. The defense that recovers most against an attack is framed. An empty cell was not run.

    Args:
        records: of any runs.

    Returns:
        Figures by file name.

    Raises:
        UsageError: nothing met a defense, no clean victim is done, or records that mix settings.
    """
    records = list(records)
    all_blocks = blocks(records)
    by_place = {(block.dataset.spec, block.victim.spec): block for block in all_blocks}
    figures = {}
    for table in make_matrix(records):
        block = by_place[table.keys["dataset"], table.keys["victim"]]
        figures[named("matrix", block, all_blocks)] = _draw(block, table)
    return figures


def _draw(block: Block, table: Table) -> Figure:
    columns = list(table.columns)
    lefts = {column: place + (_GAP if place else 0.0) for place, column in enumerate(columns)}
    tops = {row: place + (_GAP if row == CLEAN_ROW else 0.0) for place, row in enumerate(table.rows)}
    right, bottom = max(lefts.values()) + 1, max(tops.values()) + 1
    with styled():
        figure = Figure(figsize=(WIDTH, 1.35 + 0.27 * bottom), layout="constrained")
        axes = figure.subplots()
        for row, top in tops.items():
            for column, left in lefts.items():
                if (row == CLEAN_ROW) and column == LOST:
                    continue
                axes.add_patch(Rectangle((left, top), 1, 1, facecolor=_NOT_RUN, edgecolor="white", linewidth=0.5))
        # Marked cells last, so that no neighbour covers their frame.
        for cell in table.cells.sort_values("best").itertuples(index=False):
            left, top = lefts[str(cell.column)], tops[str(cell.row)]
            beside = cell.row == CLEAN_ROW or cell.column == LOST
            mean = float(str(cell.mean))
            share = 0.0 if isnan(mean) else min(max(mean, 0.0), 100.0)
            axes.add_patch(
                Rectangle(
                    (left, top), 1, 1, facecolor=(_BESIDE if beside else _RECOVERED)(share / 100),
                    edgecolor=INK if cell.best else "#bbbbbb", linewidth=1.8 if cell.best else 0.5,
                )
            )  # fmt: skip
            axes.text(
                left + 0.5, top + 0.5, shown(cell), ha="center", va="center", fontsize=6.5,
                fontweight="bold" if cell.best else "normal",
                color="white" if share > _LIGHT and not beside else INK,
            )  # fmt: skip
        axes.set(xlim=(-0.02, right + 0.02), ylim=(bottom + 0.03, -0.03))
        axes.set_xticks(
            [left + 0.5 for left in lefts.values()],
            [name if name == LOST else name.replace(" ", "\n", 1) for name in table.columns.values()],
            fontsize=7,
        )
        axes.set_yticks([top + 0.5 for top in tops.values()], list(tops))
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        parts = [f"{block.dataset.label}, victim {block.victim.spec}: % of lost R@10 recovered"]
        parts += ["near chance even on clean data"] if near_chance(block.of(CLEAN, UNDEFENDED)) else []
        parts += ["framed: the worst for the attack"] if table.cells["best"].any() else []
        parts += ["± sd over paired seeds"] if table.cells["std"].notna().any() else []
        heading(figure, "; ".join(parts))
        return figure

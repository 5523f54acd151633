"""The matrix attack × defense as a heat map."""

from collections.abc import Iterable
from math import isnan
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmark.figures.style import BLUE, FAINT, INK, VERMILION, WIDTH, heading, in_lines, named, styled, told_apart
from benchmark.grid.records import Record
from benchmark.tables.chance import near_chance
from benchmark.tables.matrix import matrix as make_matrix
from benchmark.tables.matrix_cells import CLEAN_ROW, NO_DEFENSE
from benchmark.tables.ranking import RANK
from benchmark.tables.render import shown
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, blocks
from benchmark.tables.table import Table

_KEPT: Colormap = LinearSegmentedColormap.from_list("kept", ["#ffffff", BLUE])
_BESIDE: Colormap = LinearSegmentedColormap.from_list("beside", ["#ffffff", FAINT])
_NOT_RUN = "#f0f0f0"
_NOT_COUNTED = "#ffffff"  # and hatched, or it would look like an attack that leaves nothing
_GAP = 0.25  # between the cells that are compared and what stands beside them, in cells
_MOST_UPRIGHT = 9  # columns whose names have room beside each other
_UPRIGHT_LETTERS = 14  # of a line of such a name
_ROW_LETTERS = 44  # of a row's name in a line
_COLUMN_LETTERS = 36  # of a line of a column's name that leans
_USUAL_LETTERS = 31  # for which there is room above the columns in any case
_LETTER, _LINE = 0.044, 0.15  # inches that each further one takes there, and each further line
_CELL, _WIDE_CELL = 0.38, 0.52  # inches of a column: its numbers keep clear of the next; so do names of three lines
_ROW, _HIGH_ROW = 0.34, 0.44  # inches of a row, and of one with room for a name of three lines
_BESIDE_CELLS = 3.0  # inches of the names of attacks and of what leans out at the right
_LIGHT = 85  # percent from which white text stands out from the blue more than dark text


def matrix(records: Iterable[Record]) -> dict[str, Figure]:
    """A figure for each data set and victim: the recall kept of clean, by attack and defense.

    Blue: the share kept, from 0 (white) to 100 %; grey: what victims of clean data keep. The defense that undoes
    most of an attack has a thick frame and is bold, the strongest attack against a defense has a dashed frame and
    is in italics. What does not count, as a gate fails, is in brackets, pale and hatched. At the edges the ranks of
    both. An empty cell was not run; one that failed says so.

    Args:
        records: of any runs.

    Returns:
        Figures by file name.

    Raises:
        UsageError: nothing met a defense, no clean victim is done, or records that mix settings.
    """
    records = list(records)
    by_place = {(block.dataset.spec, block.victim.spec): block for block in told_apart(blocks(records))}
    tables: dict[tuple[str, str], list[Table]] = {}
    for table in make_matrix(records):
        tables.setdefault((table.keys["dataset"], table.keys["victim"]), []).append(table)
    drawn = [by_place[place] for place in tables]
    return {
        named("matrix", by_place[place], drawn): _draw(by_place[place], own[0], own[1:])
        for place, own in tables.items()
    }


def _draw(block: Block, table: Table, rankings: list[Table]) -> Figure:
    lefts = {column: place + (_GAP if column != NO_DEFENSE else 0.0) for place, column in enumerate(table.columns)}
    tops = {row: place + (_GAP if row == CLEAN_ROW else 0.0) for place, row in enumerate(table.rows)}
    right, bottom = max(lefts.values()) + 1, max(tops.values()) + 1
    names_of_rows = [in_lines(row, _ROW_LETTERS, 3) for row in tops]
    high = _HIGH_ROW if any(name.count("\n") == 2 for name in names_of_rows) else _ROW
    names = list(table.columns.values())
    upright = [name.replace(" ", "\n", 1) for name in names]
    stand = len(names) <= _MOST_UPRIGHT and _longest_line(upright) <= _UPRIGHT_LETTERS
    leaning = [in_lines(name, _COLUMN_LETTERS, 3) for name in names]
    breaks = max(name.count("\n") for name in leaning)
    above = 0 if stand else _LETTER * max(0, _longest_line(leaning) - _USUAL_LETTERS) + _LINE * breaks
    with styled():
        width = max(WIDTH, _BESIDE_CELLS + (_WIDE_CELL if breaks > 1 else _CELL) * right)
        figure = Figure(figsize=(width, 1.75 + above + high * bottom), layout="constrained")
        axes = figure.subplots()
        for top in tops.values():
            for left in lefts.values():
                axes.add_patch(Rectangle((left, top), 1, 1, facecolor=_NOT_RUN, edgecolor="white", linewidth=0.5))
        # Marked cells last, so that no neighbour covers their frame.
        for cell in table.cells.sort_values(["best", "strongest"]).itertuples(index=False):
            _cell(axes, cell, lefts[str(cell.column)], tops[str(cell.row)])
        middles = [left + 0.5 for left in lefts.values()]
        if stand:
            axes.set_xticks(middles, upright, fontsize=7)
        else:
            axes.set_xticks(middles, leaning, fontsize=7, rotation=40, ha="left", rotation_mode="anchor")
        axes.set_yticks([top + 0.5 for top in tops.values()], names_of_rows)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for ranking in rankings:
            of_attacks = ranking.keys["ranked"] == "attacks"
            ranks = {str(cell.row): cell for cell in ranking.cells.itertuples(index=False) if cell.column == RANK}
            places = {row: (right + 0.5, tops[row] + 0.5) for row in ranks if of_attacks}
            places |= {column: (lefts[column] + 0.5, bottom + 0.4) for column in ranks if not of_attacks}
            for name, (x, y) in places.items():
                axes.text(x, y, shown(ranks[name]), ha="center", va="center", fontsize=7)
            label = (right + 0.5, -0.12, "rank", "bottom") if of_attacks else (-0.12, bottom + 0.4, "rank", "center")
            axes.text(*label[:3], ha="center" if of_attacks else "right", va=label[3], fontsize=7)
        has_ranks = {ranking.keys["ranked"] for ranking in rankings}
        axes.set(
            xlim=(-0.02, right + (1.0 if "attacks" in has_ranks else 0.02)),
            ylim=(bottom + (0.8 if "defenses" in has_ranks else 0.03), -0.03),
        )
        heading(figure, _heading(block, table))
        return figure


def _longest_line(names: Iterable[str]) -> int:
    return max(len(line) for name in names for line in name.split("\n"))


def _cell(axes: Axes, cell: Any, left: float, top: float) -> None:
    """One cell with its text and its marks."""
    mean = float(cell.mean)
    share = 0.0 if isnan(mean) else min(max(mean, 0.0), 100.0)
    beside = cell.row == CLEAN_ROW
    colour = _NOT_RUN if isnan(mean) else (_BESIDE if beside else _KEPT)(share / 100)
    axes.add_patch(
        Rectangle(
            (left, top), 1, 1, facecolor=colour if cell.counts else _NOT_COUNTED,
            edgecolor=INK if cell.best else "#bbbbbb" if cell.counts else "#dddddd",
            linewidth=1.8 if cell.best else 0.5,
            hatch="" if cell.counts else "////",
        )
    )  # fmt: skip
    if cell.strongest:
        axes.add_patch(
            Rectangle(
                (left + 0.06, top + 0.08), 0.88, 0.84, fill=False, edgecolor=VERMILION, linewidth=1.1, linestyle="--"
            )
        )
    axes.text(
        left + 0.5, top + 0.5, shown(cell).replace("±", "\n±"), ha="center", va="center", fontsize=6.3,
        fontweight="bold" if cell.best else "normal", style="italic" if cell.strongest else "normal",
        linespacing=0.95, color=FAINT if not cell.counts else "white" if share > _LIGHT and not beside else INK,
    )  # fmt: skip


def _heading(block: Block, table: Table) -> str:
    parts = [f"{block.dataset.label}, victim {block.victim.spec}: R@10 kept, % of clean, last epoch"]
    parts += ["near chance even on clean data"] if near_chance(block.of(CLEAN, UNDEFENDED)) else []
    parts += ["± sd over paired seeds"] if table.cells["std"].notna().any() else []
    marks = ["thick frame: the defense that undoes most of the attack"] if table.cells["best"].any() else []
    marks += ["dashed: strongest attack under the defense"] if table.cells["strongest"].any() else []
    marks += ["hatched, (…): a gate fails"] if not table.cells["counts"].all() else []
    without_score = table.cells[table.cells["mean"].isna()]
    grey = ["not run"] if len(table.cells) < len(table.rows) * len(table.columns) else []
    grey += ["failed"] if without_score["failed"].any() else []
    grey += ["without a clean victim of its seed"] if not without_score["failed"].all() else []
    marks += [f"light grey: {' or '.join(grey)}"] if grey else []
    return ";\n".join("; ".join(line) for line in (parts, marks) if line)

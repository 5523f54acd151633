"""Recall under every defense, the paper's beside ours (Table 2)."""

from collections.abc import Iterable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.core.errors import UsageError
from benchmark.figures.style import INK, SKY, VERMILION, WIDTH, heading, named, styled
from benchmark.grid.records import Record
from benchmark.tables.defenses import table2
from benchmark.tables.published import published
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, blocks
from benchmark.tables.table import DIRECTIONS, Table


def defenses(records: Iterable[Record]) -> dict[str, Figure]:
    """A figure for each data set, victim and defended attack: R@10 after the last epoch, as in Table 2.

    Bars are means over seeds, whiskers one sample standard deviation to either side; lines stand at the clean and the
    undefended victim, diamonds at the paper's values.

    Args:
        records: of any runs; of failed ones no bar is drawn.

    Returns:
        Figures by file name.

    Raises:
        UsageError: no attack met a defense, or records that mix settings.
    """
    records = list(records)
    found = blocks(records)
    by_place = {(block.dataset.spec, block.victim.spec): block for block in found}
    figures = {}
    for table in table2(records, beside_paper=True):
        block = by_place[table.keys["dataset"], table.keys["victim"]]
        attack = table.keys["attack"]
        if attack != CLEAN and any(record.defense.spec != UNDEFENDED for record in block.of(attack)):
            figures[named("defenses", block, found, attack)] = _draw(block, table)
    if not figures:
        raise UsageError("these records hold no attack that met a defense; the figure needs one")
    return figures


def _draw(block: Block, table: Table) -> Figure:
    rows = table.rows[2:]
    undefended = table.rows[1]
    with styled():
        figure = Figure(figsize=(WIDTH, 1.5 + 0.24 * len(rows)), layout="constrained")
        panels: list[Axes] = list(figure.subplots(1, 2, sharex=True, sharey=True))
        for axes, direction in zip(panels, DIRECTIONS, strict=True):
            cells = table.cells[table.cells["column"] == f"R@10 {direction}"].set_index("row")
            cells = cells.reindex(table.rows)
            own = cells.loc[list(rows)]
            places = range(len(rows))
            axes.barh(places, own["mean"], color=SKY, height=0.62, label="under the defense")
            # Of a single seed the deviation is not a number, and no whisker is drawn.
            axes.errorbar(own["mean"], places, xerr=own["std"], fmt="none", ecolor=INK, elinewidth=1, capsize=2)
            if own["paper"].notna().any():
                axes.plot(own["paper"], places, "D", color=VERMILION, mfc="white", ms=4.5, label="paper, same defense")
            for row, label, dashes in (("Clean", "clean data", "-"), (undefended, "no defense", (0, (4, 2)))):
                if pd.notna(cells.loc[row, "mean"]):
                    axes.axvline(cells.loc[row, "mean"], color=INK, linestyle=dashes, label=label)
            axes.set(title=direction, xlabel="R@10, %")
            axes.set_yticks(list(places), [_with_seeds(row, table) for row in rows])
            axes.tick_params(axis="y", length=0)
        panels[0].set_xlim(left=0)  # once both are drawn, for it ends the scaling of both
        panels[0].invert_yaxis()
        handles, labels = (list(reversed(one)) for one in panels[0].get_legend_handles_labels())
        figure.legend(handles, labels, loc="outside lower center", ncols=4, handlelength=2.4)
        parts = [f"{undefended} on {block.dataset.label}, victim {block.victim.spec}"]
        parts += ["mean ± sd over seeds"] if table.cells["std"].notna().any() else []
        parts += [f"paper: {published(2)['setting'].partition(',')[0]}"] if table.cells["paper"].notna().any() else []
        heading(figure, "; ".join(parts))
        return figure


def _with_seeds(row: str, table: Table) -> str:
    """A row's name, with its seeds where rows differ in them."""
    seeds = table.seeds.get(row)
    if seeds is None or not seeds[-1].isdecimal():
        return row if seeds is None else f"{row}, no seed"
    return f"{row}, {'seed' if seeds.isdecimal() else 'seeds'} {seeds}"

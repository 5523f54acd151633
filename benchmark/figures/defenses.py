"""What each defense brings back and the recall under it, the paper's values beside ours (Table 2)."""

from collections.abc import Iterable, Sequence
from math import isnan

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.core.errors import UsageError
from benchmark.figures.style import BLUE, INK, SKY, VERMILION, WIDTH, heading, in_lines, named, styled, told_apart
from benchmark.grid.records import Record
from benchmark.tables.chance import near_chance
from benchmark.tables.defenses import table2
from benchmark.tables.published import paper_recovered, published, without_parameters
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, blocks
from benchmark.tables.shares import RECOVERED
from benchmark.tables.table import DIRECTIONS, Table, done_seeds, measure

_PAPER = "paper, same defense"
_LETTERS = 36  # of a row's name in a line
_ROWS = {1: 0.24, 2: 0.32, 3: 0.44}  # inches of a row, by the lines of the longest name
_BAR = 0.62  # of a row
_LEGEND = ("recovered", "R@10 under the defense", "one seed", "no defense", "clean data", _PAPER)


def defenses(records: Iterable[Record]) -> dict[str, Figure]:
    """A figure for each data set, victim and defended attack: recovered share, and R@10 after the last epoch.

    The first panel shows the share of the lost recall that a defense recovers. Its whiskers, one sample standard
    deviation to either side, pair the victims of each seed. In the panels of R@10, bars are means, dots single seeds,
    and lines the clean and the undefended victim. Diamonds are the paper's values.

    Args:
        records: of any runs; failed ones are left out.

    Returns:
        Figures by file name.

    Raises:
        UsageError: no attack met a defense, or records that mix settings.
    """
    records = list(records)
    by_place = {(block.dataset.spec, block.victim.spec): block for block in told_apart(blocks(records))}
    drawn = []
    for table in table2(records, beside_paper=True):
        block = by_place[table.keys["dataset"], table.keys["victim"]]
        attack = table.keys["attack"]
        if attack != CLEAN and any(record.defense.spec != UNDEFENDED for record in block.of(attack)):
            drawn.append((block, table))
    if not drawn:
        raise UsageError("these records hold no attack that met a defense; the figure needs one")
    found = [block for block, _ in drawn]
    return {named("defenses", block, found, table.keys["attack"]): _draw(block, table) for block, table in drawn}


def _draw(block: Block, table: Table) -> Figure:
    rows = table.rows[2:]
    shares = table.cells[table.cells["column"] == RECOVERED].set_index("row").reindex(rows)
    has_shares = bool(shares["mean"].notna().any())
    names = [in_lines(_with_seeds(row, block, table), _LETTERS, max(_ROWS)) for row in rows]
    high = _ROWS[1 + max(name.count("\n") for name in names)]
    with styled():
        figure = Figure(figsize=(WIDTH, 1.6 + high * len(rows)), layout="constrained")
        ratios = [1.3, 1, 1] if has_shares else [1, 1]
        panels: list[Axes] = list(figure.subplots(1, len(ratios), sharey=True, width_ratios=ratios))
        if has_shares:
            _draw_shares(panels[0], table, shares, block.of(table.keys["attack"])[0].attack.label)
        for axes, direction in zip(panels[-2:], DIRECTIONS, strict=True):
            _draw_recall(axes, block, table, direction)
        right = max(axes.get_xlim()[1] for axes in panels[-2:])
        for axes in panels[-2:]:
            axes.set_xlim(0, right)
        panels[0].set_yticks(range(len(rows)), names)
        # As if all had a bar; a row without one would lie on the edge. The first is at the top.
        edge = _BAR / 2 + 0.05 * (len(rows) - 1 + _BAR)
        panels[0].set_ylim(len(rows) - 1 + edge, -edge)
        entries = {
            label: handle
            for axes in (panels[0], panels[-1])
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        labels = [label for label in _LEGEND if label in entries]
        figure.legend([entries[label] for label in labels], labels, loc="outside lower center", ncols=3)
        parts = [f"{table.rows[1]} on {block.dataset.label}, victim {block.victim.spec}"]
        parts += ["near chance even on clean data"] if near_chance(block.of(CLEAN, UNDEFENDED)) else []
        parts += ["whiskers: ± sd over paired seeds"] if shares["std"].notna().any() else []
        parts += [f"paper: {published(2)['setting'].partition(',')[0]}"] if _PAPER in entries else []
        heading(figure, "; ".join(parts))
        return figure


def _draw_shares(axes: Axes, table: Table, shares: pd.DataFrame, attack: str) -> None:
    """The recovered share of each row, from the undefended victim at 0 to the clean one at 100."""
    places = range(len(shares))
    axes.barh(places, shares["mean"], color=BLUE, height=_BAR, label="recovered")
    # The deviation of a single seed is not a number, and no whisker is drawn.
    axes.errorbar(shares["mean"], places, xerr=shares["std"], fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    paper = paper_recovered(attack)
    specs = table.cells.drop_duplicates("row").set_index("row")["defense"]
    values = [paper.get(without_parameters(str(specs.get(row))), float("nan")) for row in shares.index]
    if not all(map(isnan, values)):
        axes.plot(values, places, "D", color=VERMILION, mfc="white", ms=4.5, label=_PAPER)
    axes.axvline(0, color=INK, linestyle=(0, (4, 2)))
    axes.axvline(100, color=INK)
    axes.set(title="lost recall recovered", xlabel="recov., %")
    axes.tick_params(axis="y", length=0)


def _draw_recall(axes: Axes, block: Block, table: Table, direction: str) -> None:
    """R@10 in one direction: means as bars, seeds as dots, the clean and the undefended victim as lines."""
    rows = table.rows[2:]
    cells = table.cells[table.cells["column"] == f"R@10 {direction}"].set_index("row").reindex(table.rows)
    places = range(len(rows))
    axes.barh(places, cells.loc[list(rows), "mean"], color=SKY, height=_BAR, label="R@10 under the defense")
    recall = measure("R@10", direction)
    dots: list[tuple[float, int]] = []
    for place, row in enumerate(rows):
        seeds = [record for record in _records(block, table, row) if record.status == "done"]
        dots += [(value, place) for record in seeds if (value := recall.of(record)) is not None] if seeds[1:] else []
    if dots:
        axes.plot(*zip(*dots, strict=True), "o", color=INK, ms=2, label="one seed")
    paper = cells.loc[list(rows), "paper"]
    if paper.notna().any():
        axes.plot(paper, places, "D", color=VERMILION, mfc="white", ms=4.5, label=_PAPER)
    for row, label, dashes in ((table.rows[0], "clean data", "-"), (table.rows[1], "no defense", (0, (4, 2)))):
        recall_at_10 = float(cells["mean"][row])
        if not isnan(recall_at_10):
            axes.axvline(recall_at_10, color=INK, linestyle=dashes, label=label)
    axes.set(title=direction, xlabel="R@10, %")
    axes.tick_params(axis="y", length=0)


def _records(block: Block, table: Table, row: str) -> Sequence[Record]:
    """The records behind a row."""
    defense = table.cells.loc[table.cells["row"] == row, "defense"].iloc[0]
    return block.of(table.keys["attack"], defense)


def _with_seeds(row: str, block: Block, table: Table) -> str:
    """A row's name, with its seeds where rows differ in them, or with the reason why it has no bar."""
    own = _records(block, table, row)
    if not done_seeds(own):
        return f"{row}, {'failed' if own else 'not run'}"
    seeds = table.seeds.get(row)
    if seeds is None or seeds.startswith("n="):
        return row if seeds is None else f"{row}, {seeds}"
    return f"{row}, {'seed' if seeds.isdecimal() else 'seeds'} {seeds}"

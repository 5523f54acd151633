"""Results on standard output: Markdown and plain lines in a pipe; on a terminal, fitted to its width."""

import logging
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.cells import cell_len
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from benchmark.core.printing import show, terminal

if TYPE_CHECKING:
    from rich.console import JustifyMethod

    from benchmark.grid.records import Record
    from benchmark.tables.table import Table

_log = logging.getLogger(__name__)

_GAP = 2  # spaces between columns


class Item(NamedTuple):
    """An entry of a list: its name, what it is, and its parameters or the like."""

    name: str
    text: str
    details: str = ""


def print_items(items: Sequence[Item], notes: Sequence[str]) -> None:
    """Print a list on a terminal: names in one column, what they are beside them."""
    table = RichTable.grid(padding=(0, _GAP), pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for item in items:
        between = "\n" if "\n" in item.details else "  " if item.details else ""
        text, details = _with_spaces(item.text), _with_spaces(item.details)
        table.add_row(Text(item.name), Text.assemble(text, between, (details, "dim")))
    console = terminal(highlight=False)
    console.print(table)
    for note in notes:
        console.print(Text(note, style="dim"))


def _with_spaces(text: str) -> str:
    """A space after the commas between parameters, where a line may then end."""
    return re.sub(r",(?=[a-z_]+\b)", ", ", text)


def print_tables(tables: Sequence["Table"], *, notes: bool) -> None:
    """Print tables; on a terminal, one that is too wide is printed in parts, each with the names of the rows.

    Args:
        tables: at least one.
        notes: whether a terminal shows the notes below each table. Elsewhere they are always there.
    """
    from benchmark.tables.render import Marks, render, text_grid
    from benchmark.tables.table import Caution

    if not sys.stdout.isatty():
        show(*render(tables, "markdown").split("\n"))
        return
    console = terminal(highlight=False)
    for table in tables:
        heads, rows = text_grid(table, Marks("[bold]{}[/bold]", "[italic]{}[/italic]"), escaped=escape)
        together = 3 if table.beside == "columns" else 1  # ours, the paper's, the difference
        parts = fit_columns(_texts([heads])[0], _texts(rows), console.width, together)
        for number, part in enumerate(parts):
            which = f" ({number + 1}/{len(parts)})" if len(parts) > 1 else ""
            console.print(Text(f"{table.title}{which}", style="bold"))
            console.print(Padding(part, (0, 0, 1, 0)))
        shown = [note for note in table.notes if notes or isinstance(note, Caution)]
        if shown:
            bullets = RichTable.grid(padding=(0, 1))
            for note in shown:
                bullets.add_row("–", Text(note))
            console.print(Padding(bullets, (0, 0, 1, 0)))
        if hidden := len(table.notes) - len(shown):
            console.print(Text(f"{hidden} notes explain columns and settings: --notes\n", style="dim"))


def exit_code(records: "Sequence[Record]") -> int:
    """0 if every cell is done; 1 if one failed, with a line that says how to run it again."""
    if all(record.status == "done" for record in records):
        return 0
    _log.info("--rerun failed runs the failed cells again")
    return 1


def _texts(rows: Sequence[Sequence[str]]) -> list[list[Text]]:
    return [[Text.from_markup(text, emoji=False) for text in row] for row in rows]


def fit_columns(
    heads: Sequence[Text], rows: Sequence[Sequence[Text]], width: int, together: int = 1
) -> list[RichTable]:
    """A table in as many parts as its columns need, each at most ``width`` wide if one group of columns can be.

    Heads wrap between words before columns move to the next part; values never wrap. The first column, which names the
    rows, is in every part and wraps where it is longer than a third of the width; its words break where they are longer
    than half of it.

    Args:
        heads: of all columns.
        rows: texts of all columns.
        width: of the terminal, in characters.
        together: so many columns after the first stay in one part.
    """
    columns = list(zip(*rows, strict=True))
    values = [max(map(_length, column), default=0) for column in columns]
    full = [max(_length(head), value) for head, value in zip(heads, values, strict=True)]
    least = [max(_longest_word(head), value) for head, value in zip(heads, values, strict=True)]
    if full[0] + sum(_GAP + size for size in full[1:]) > width:
        longest = max(map(_longest_word, columns[0]), default=0)
        full[0] = min(full[0], max(width // 3, min(longest, width // 2), 1))
    room = max(0, width - full[0])
    groups = [list(range(start, min(start + together, len(heads)))) for start in range(1, len(heads), together)]
    count = len(_split(groups, least, room))
    # As narrow as so many parts can be, so that the last is about as wide as the others.
    parts = next(parts for limit in range(room + 1) if len(parts := _split(groups, least, limit)) == count)
    sizes = [full if sum(_GAP + full[index] for index in part) <= room else [full[0], *least[1:]] for part in parts]
    return [_part(heads, rows, [0, *part], widths) for part, widths in zip(parts, sizes, strict=True)]


def _split(groups: Sequence[Sequence[int]], widths: Sequence[int], limit: int) -> list[list[int]]:
    """Groups of columns in parts, each as full as the limit allows and with one group at least."""
    parts: list[list[int]] = []
    left = 0
    for group in groups:
        needed = sum(_GAP + widths[index] for index in group)
        if not parts or needed > left:
            parts.append([])
            left = limit
        parts[-1] += group
        left -= needed
    return parts


def _part(
    heads: Sequence[Text], rows: Sequence[Sequence[Text]], part: Sequence[int], widths: Sequence[int]
) -> RichTable:
    # The line below the heads has a place between columns, too: a gap is one character of padding and this.
    table = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
    for index in part:
        justify: JustifyMethod = "right" if index else "left"
        table.add_column(heads[index], width=widths[index], justify=justify, vertical="bottom", overflow="fold")
    for row in rows:
        table.add_row(*(row[index] for index in part))
    return table


def _length(text: Text) -> int:
    return cell_len(text.plain)


def _longest_word(text: Text) -> int:
    return max(map(cell_len, text.plain.split()), default=0)

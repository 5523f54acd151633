"""Tables as text: markdown and LaTeX to read, CSV and JSON to compute with."""

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from textwrap import fill
from typing import Any, NamedTuple

import pandas as pd
from tabulate import tabulate

from benchmark.core.errors import UsageError
from benchmark.core.printing import printable
from benchmark.core.registry import unknown
from benchmark.tables import FORMATS
from benchmark.tables.table import Table

MISSING, FAILED = "–", "failed"


class Marks(NamedTuple):
    """Templates for the text of marked cells: of the best, and of the attack that is strongest against a defense."""

    best: str
    strongest: str


_MARKDOWN = Marks("**{}**", "_{}_")
_TEX = Marks(r"\textbf{{{}}}", r"\textit{{{}}}")
_HTML = Marks("<strong>{}</strong>", "<em>{}</em>")
_PLAIN = Marks("{}", "{}")
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "→": r"$\to$", "±": r"$\pm$", "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$", "∞": r"$\infty$",
        "ℓ": r"$\ell$", "·": r"$\cdot$", "−": "$-$", "Δ": r"$\Delta$", "α": r"$\alpha$", "β": r"$\beta$",
        "δ": r"$\delta$", "ε": r"$\varepsilon$", "θ": r"$\theta$", "λ": r"$\lambda$", "σ": r"$\sigma$",
        "≈": r"$\approx$", "–": "--", "…": r"\dots{}",
        # At the start of a row, a bracket would be read as an argument of the one before.
        "[": "{[}",
    }
)  # fmt: skip
# In Markdown; brackets only where they make a link, a picture or the definition of one.
_ACTIVE = re.compile(r"[\\`*<|]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])|~(?=\S)|(?<=\S)~")
_BLOCK = re.compile(r"\n  (?=[#>+=~-])")  # at the start of a line that goes on a note: a heading, a quotation, a list
_PAGE = 480  # points, across an A4 page with margins of 2 cm
_PADDING = 2  # points, on either side of a column
_SIZES = {r"\small": 9.3, r"\footnotesize": 8.5, r"\scriptsize": 8.0, r"\tiny": 6.8}  # an em of Computer Modern, points
_EMS = {".": 0.28, ",": 0.28, "i": 0.28, "l": 0.28, " ": 0.34, "-": 0.35, "±": 0.8, "×": 0.8, "Δ": 0.85, "%": 0.85} | {
    "→": 1.0, "=": 0.8, "+": 0.8,
}  # fmt: skip


def render(tables: Sequence[Table], style: str) -> str:
    """Tables as text, without a newline at the end.

    Args:
        tables: at least one, all of one kind.
        style: ``markdown``; ``latex`` (needs the package booktabs); ``html``, fragments of a page; ``csv``, a line per
            cell; ``json``, a list.

    Raises:
        UsageError: unknown style.
    """
    if style == "csv":
        return pd.concat([_plain(table) for table in tables]).to_csv(index=False).rstrip("\n")
    if style == "json":
        return json.dumps([_data(table) for table in tables], indent=1, ensure_ascii=False)
    # Anyone may have written the names in a record.
    tables = [replace(one, title=printable(one.title), notes=tuple(map(printable, one.notes))) for one in tables]
    if style == "markdown":
        return _markdown(tables)
    if style == "latex":
        return "\n\n".join(_latex(table) for table in tables)
    if style == "html":
        return "\n".join(_html(table) for table in tables)
    raise UsageError(unknown("format", style, list(FORMATS)))


def _markdown(tables: Sequence[Table]) -> str:
    """The tables, each with its own notes; notes of all of several tables stand once, at the end."""
    shared = [note for note in tables[0].notes if all(note in table.notes for table in tables[1:])]
    if len(tables) == 1 or not shared:
        return "\n\n".join(map(_markdown_table, tables))
    own = [replace(table, notes=tuple(note for note in table.notes if note not in shared)) for table in tables]
    return "\n\n".join([*map(_markdown_table, own), "**Of all tables above**", "\n".join(map(_markdown_note, shared))])


def _markdown_table(table: Table) -> str:
    heads, rows = text_grid(table, _MARKDOWN, escaped=markdown_text)
    # Heads given as such are padded by two, which makes the table too wide for a terminal; so they are its first row.
    rule, head, *lines = tabulate(
        [heads, *rows], tablefmt="pipe", disable_numparse=True, colalign=_alignment(heads)
    ).split("\n")
    notes = [_markdown_note(note) for note in table.notes]
    return "\n".join([f"**{markdown_text(table.title)}**", "", head, rule, *lines, "", *notes])


def _markdown_note(note: str) -> str:
    lines = fill(
        f"- {markdown_text(note)}", 118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return _BLOCK.sub(r"\n  \\", lines)


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, link, code, emphasis by stars or end of a table's cell.

    Other marks do nothing inside a line: square brackets alone, as specs have them, underscores inside words, and a
    tilde between blanks.
    """
    return _ACTIVE.sub(r"\\\g<0>", text)


def _latex(table: Table) -> str:
    heads, rows = text_grid(table, _TEX, escaped=_escaped)
    size = _size(*text_grid(table, _PLAIN))
    columns = "".join(side[0] for side in _alignment(heads))
    body = pd.DataFrame(rows, columns=heads).to_latex(index=False, escape=False, column_format=columns).rstrip("\n")
    notes = [rf"\item {_escaped(note)}" for note in table.notes]
    caption = table.title.partition(": ")[2]  # LaTeX numbers tables itself
    caption = caption[0].upper() + caption[1:]
    lines = [
        r"\begin{table*}",
        rf"\caption{{{_escaped(caption)}}}",
        rf"\centering{size}\setlength{{\tabcolsep}}{{{_PADDING}pt}}",
        body,
        r"\begin{itemize}\scriptsize\setlength{\itemsep}{0pt}\setlength{\parskip}{0pt}\setlength{\parsep}{0pt}",
        *notes,
        r"\end{itemize}",
        r"\end{table*}",
    ]
    return "\n".join(lines)


def _size(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The largest font size at which a table of plain text fits across a page; the smallest where none does."""
    columns = zip(*(heads, *rows), strict=True)
    ems = sum(max(sum(_EMS.get(letter, 0.53) for letter in text) for text in column) for column in columns)
    padding = 2 * _PADDING * len(heads)
    fitting = (size for size, em in _SIZES.items() if ems * em + padding <= _PAGE)
    return next(fitting, list(_SIZES)[-1])


def _html(table: Table) -> str:
    heads, rows = text_grid(table, _HTML, escaped=escape)
    head = "".join(f"<th scope=col>{text}</th>" for text in heads)
    body = "\n".join(
        f"<tr><th scope=row>{name}</th>{''.join(f'<td>{value}</td>' for value in values)}</tr>"
        for name, *values in rows
    )
    terms = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return (
        f"<figure>\n<figcaption>{escape(table.title)}</figcaption>\n"
        f"<div class=frame><div class=scroll><table>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table></div></div>\n"
        f"<details><summary>Terms and settings</summary><ul>{terms}</ul></details>\n</figure>"
    )


def _escaped(text: str) -> str:
    """For LaTeX, whose fonts have Latin letters and what is listed above; anything else becomes a question mark."""
    known = (letter if ord(letter) in _LATEX or _is_latin(letter) else "?" for letter in text)
    return "".join(known).translate(_LATEX)


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN ")


def _alignment(heads: Sequence[str]) -> list[str]:
    return ["left", *("right" for _ in heads[1:])]


def text_grid(table: Table, marks: Marks, escaped: Callable[[str], str] = str) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table as escaped text, first the names of the rows."""
    escaped = partial(_one_line, escaped)
    rows, columns = list(table.rows), list(table.columns)
    kinds = {"ours": shown, "paper": _paper, "Δ": _difference} if table.beside else {"ours": shown}
    text = {}
    for kind, show in kinds.items():
        texts = []
        for cell in table.cells.itertuples(index=False):
            plain = escaped(show(cell))
            texts.append(_marked(cell, plain, marks) if kind == "ours" else plain)
        grid = table.cells.assign(text=texts).pivot(index="row", columns="column", values="text")
        # As objects, because an empty column would be one of floats, which newer versions of pandas put no text into.
        text[kind] = grid.reindex(index=rows, columns=columns).astype(object).fillna(escaped(MISSING))
    names = {row: escaped(row) for row in rows}
    heads = [escaped(table.columns[column]) for column in columns]
    if table.beside == "rows":
        lines = [
            [names[row] if kind == "ours" else escaped(kind), *text[kind].loc[row]]
            for row in rows
            for kind in kinds
            # The paper has nothing to say of some rows.
            if kind == "ours" or (text["paper"].loc[row] != escaped(MISSING)).any()
        ]
        return [escaped(table.corner), *heads], lines
    heads = [head if kind == "ours" else escaped(kind) for head in heads for kind in kinds]
    lines = [[names[row], *(text[kind].loc[row, column] for column in columns for kind in kinds)] for row in rows]
    if table.seeds:
        heads.append("seeds")
        lines = [[*line, escaped(table.seeds.get(row, MISSING))] for row, line in zip(rows, lines, strict=True)]
    return [escaped(table.corner), *heads], lines


def _marked(cell: Any, text: str, marks: Marks) -> str:
    if getattr(cell, "strongest", False):
        text = marks.strongest.format(text)
    return marks.best.format(text) if cell.best else text


def _one_line(escaped: Callable[[str], str], text: str) -> str:
    return escaped(printable(text))


def shown(cell: Any) -> str:
    """A cell as every table writes it: its own text; or mean and spread, or interval; or that it failed or is missing.

    One that does not count is in brackets.
    """
    if isinstance(text := getattr(cell, "text", None), str):
        return text
    if pd.isna(cell.mean):
        return FAILED if cell.failed else MISSING
    digits = _digits(cell)
    if pd.notna(low := getattr(cell, "low", None)):
        spread = f" [{_rounded(low, digits)}, {_rounded(cell.high, digits)}]"
    else:
        spread = "" if pd.isna(cell.std) else f"±{cell.std:.{digits}f}"
    value = f"{_rounded(cell.mean, digits)}{spread}"
    return value if getattr(cell, "counts", True) else f"({value})"


def _rounded(value: float, digits: int, sign: str = "") -> str:
    """A number with so many digits after the point; one that rounds to 0 has no minus sign. ``sign``: of a format."""
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def _paper(cell: Any) -> str:
    return MISSING if pd.isna(cell.paper) else f"{cell.paper:g}"


def _difference(cell: Any) -> str:
    return MISSING if pd.isna(cell.difference) else _rounded(cell.difference, _digits(cell), "+")


def _digits(cell: Any) -> int:
    """Digits after the point: as many as tell values of that unit apart; times and sizes have none above 10."""
    if (digits := {"%": 1, "dB": 1, "AUC": 2, "nats": 2, "ln B": 2, "SSIM": 3}.get(cell.unit)) is not None:
        return digits
    return 0 if cell.mean >= 10 else 1


def _plain(table: Table) -> pd.DataFrame:
    """All cells, also those that have no room on a page; the first columns say what the table is about."""
    cells = table.cells.round(6)
    about = {key: value for key, value in table.keys.items() if key not in cells}
    return pd.concat([pd.DataFrame(about, index=cells.index), cells], axis=1)


def _data(table: Table) -> dict[str, Any]:
    cells = table.cells.round(6).astype(object)
    return {
        "title": table.title,
        **table.keys,
        "cells": cells.where(cells.notna(), None).to_dict("records"),
        "notes": list(table.notes),
    }

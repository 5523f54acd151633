"""How a record lies in its file: scores as columns, measured numbers in eight digits, nothing that is empty.

Columns write the name of a score once, before its values after all epochs. A file is a third smaller for it, and one
metric's course can be read in a line.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_MEASURED = ("epochs", "loss", "poison", "data", "changes", "seconds", "peak_memory_mb")
_CHOSEN = ("dataset", "attack", "defense", "victim", "surrogate")
_DEEPEST = 3  # a split, a direction, a score


def to_file(content: Mapping[str, Any]) -> dict[str, Any]:
    """A record's fields, in JSON's kinds, as its file holds them."""
    laid_out = rounded({**content, "epochs": as_columns(content["epochs"])})
    laid_out |= {name: _without_empty(laid_out[name]) for name in _CHOSEN}
    return _without_empty(laid_out)


def from_file(content: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`to_file`, but for fields that were empty; their kinds are not checked.

    Raises:
        ValueError: the scores are no columns of one length.
    """
    return {**content, "epochs": as_rows(content.get("epochs", {}))}


def rounded(content: Mapping[str, Any]) -> dict[str, Any]:
    """A record's fields with what was measured in eight significant digits: more is noise of the arithmetic."""
    return {name: _rounded(value) if name in _MEASURED else value for name, value in content.items()}


def as_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows as nested columns: ``{"epoch": [1, 2], "val": {"image_to_text": {"recall_at_1": [0.4, 4.6], …}, …}, …}``.

    A part that some rows lack has ``None`` there; one that all lack is left out.
    """
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        if any(isinstance(value, Mapping) for value in values):
            columns[name] = as_columns([value or {} for value in values])
        elif any(value is not None for value in values):
            columns[name] = values
    return columns


def as_rows(columns: Any) -> list[Any]:
    """The rows of nested columns.

    Raises:
        ValueError: ``columns`` is no such mapping, nested deeper than scores are, or its lists have other lengths than
            that of the epochs.
    """
    if not isinstance(columns, Mapping):
        raise ValueError("epochs: no columns")
    epochs = columns.get("epoch", [])
    return _rows(columns, len(epochs) if isinstance(epochs, list) else 0, "epochs", _DEEPEST)


def _rows(columns: Any, count: int, place: str, deepest: int) -> list[Any]:
    if isinstance(columns, list) and len(columns) == count:
        return columns
    if not isinstance(columns, Mapping) or deepest < 0:
        raise ValueError(f"{place}: not a list of {count} values, one for each epoch")
    parts = {name: _rows(column, count, f"{place}.{name[:40]}", deepest - 1) for name, column in columns.items()}
    rows = [{name: values[index] for name, values in parts.items()} for index in range(count)]
    return [None if row and all(value is None for value in row.values()) else row for row in rows]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return {name: _rounded(part) for name, part in value.items()} if isinstance(value, Mapping) else value


def _without_empty(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if value not in ("", [], {})}

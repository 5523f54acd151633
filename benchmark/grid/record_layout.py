"""The layout of a record's file: scores as columns, measured numbers in seven digits, no empty fields.

Columns write the name of a score once, before its values after all epochs. A file is a third smaller for it, and one
metric's course can be read in a line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

_MEASURED = ("epochs", "loss", "poison", "data", "changes", "seconds", "peak_memory_mb")
_MAY_BE_EMPTY = (*_MEASURED, "provenance", "error")
CHOSEN = ("dataset", "attack", "defense", "victim", "surrogate")  # the fields that hold a spec
_MAY_BE_EMPTY_OF_CHOSEN = ("params", "strength")


def to_file(content: Mapping[str, Any]) -> dict[str, Any]:
    """A record's fields, in JSON's kinds, as its file holds them."""
    laid_out = {**content, "epochs": as_columns(content["epochs"])}
    laid_out |= {name: _rounded(laid_out[name]) for name in _MEASURED}
    laid_out |= {name: _without_empty(laid_out[name], _MAY_BE_EMPTY_OF_CHOSEN) for name in CHOSEN}
    return _without_empty(laid_out, _MAY_BE_EMPTY)


def from_file(content: Mapping[str, Any], scores: type) -> dict[str, Any]:
    """The inverse of :func:`to_file`, but for fields that were empty; kinds of values are not checked.

    Args:
        content: what the file holds.
        scores: the dataclass of an epoch's scores.

    Raises:
        ValueError: see :func:`as_rows`.
    """
    return {**content, "epochs": as_rows(content.get("epochs", {}), scores)}


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


def as_rows(columns: Any, scores: type) -> list[Any]:
    """The rows of nested columns.

    Args:
        columns: as :func:`as_columns` makes them.
        scores: the dataclass of a row; fields that are dataclasses have columns within.

    Raises:
        ValueError: ``columns`` is no such mapping, has a name that the dataclasses lack, or lists of other lengths than
            that of ``epoch``. The message names the place.
    """
    epochs = columns.get("epoch") if isinstance(columns, Mapping) else None
    return _rows(columns, scores, len(epochs) if isinstance(epochs, list) else 0, "epochs")


def _rows(columns: Any, kind: Any, count: int, place: str) -> list[Any]:
    part = next((each for each in (kind, *get_args(kind)) if is_dataclass(each)), None)
    if part is None:
        if not isinstance(columns, list) or len(columns) != count:
            raise ValueError(f"{place}: not a list of {count} values, one for each epoch")
        return columns
    if not isinstance(columns, Mapping):
        raise ValueError(f"{place}: no columns")
    kinds = get_type_hints(part)
    if unknown := [name for name in columns if name not in kinds]:
        raise ValueError(f"unknown field {f'{place}.{unknown[0][:40]}'!a}")
    parts = {name: _rows(column, kinds[name], count, f"{place}.{name}") for name, column in columns.items()}
    rows = [{name: values[index] for name, values in parts.items()} for index in range(count)]
    return [None if row and all(value is None for value in row.values()) else row for row in rows]


def _rounded(value: Any) -> Any:
    """What was measured, in seven significant digits, as many as a float32 has."""
    if isinstance(value, float):
        short = float(f"{value:.7g}")
        return int(short) if short.is_integer() else short
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return {name: _rounded(part) for name, part in value.items()} if isinstance(value, Mapping) else value


def _without_empty(content: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if value or name not in names}

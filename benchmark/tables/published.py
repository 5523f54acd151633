"""The paper's numbers, to set beside ours."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.core.spec import parse_spec

# Beside the package in a checkout as in an installation, where the wheel puts results/paper next to it.
FOLDER = Path(__file__).parents[2] / "results" / "paper"


def published(number: int) -> dict[str, Any]:
    """A table of the paper: ``table``, ``source``, ``setting``, ``rows`` (with the attack's label) and ``remarks``."""
    data: dict[str, Any] = json.loads((FOLDER / f"table{number}.json").read_text("utf-8"))
    return data


def beside(cells: pd.DataFrame, number: int, labels: Mapping[str, str]) -> pd.DataFrame:
    """Cells with the paper's value (missing where it has none) and the difference, ours less the paper's.

    Args:
        cells: of a table.
        number: of the paper's table.
        labels: of the attacks, by spec.
    """
    paper = {
        (row["attack"], row["defense"], name): float(value)
        for row in published(number)["rows"]
        for name, value in row.items()
        if name not in ("attack", "defense")
    }
    ours = zip(cells["attack"], cells["defense"], cells["measure"], strict=True)
    found = [paper.get((labels[attack], _name(defense), what)) for attack, defense, what in ours]
    column = pd.Series(found, index=cells.index, dtype=float)
    return cells.assign(paper=column, difference=cells["mean"] - column)


def _name(defense: str) -> str:
    """A defense's name without parameters, as the paper gives none; a composition, which it has not, stays whole."""
    return defense if "+" in defense else parse_spec(defense).name


def paper_notes(number: int) -> list[str]:
    """Where the paper's values come from, and what is to be said of them."""
    data = published(number)
    source = f"Paper: {data['table']} ({data['setting']}); {data['source']}."
    return [source, "Δ: ours less the paper's.", *data["remarks"]]

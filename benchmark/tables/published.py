"""The paper's numbers, to set beside ours, and the order in which it lists defenses."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.core.spec import by_number, parse_spec, split_outside_brackets

# Beside the package in a checkout as in an installation, where the wheel puts results/paper next to it.
FOLDER = Path(__file__).parents[2] / "results" / "paper"


def published(number: int) -> dict[str, Any]:
    """A table of the paper: ``table``, ``source``, ``setting``, ``rows`` (with the attack's label) and ``remarks``."""
    return json.loads((FOLDER / f"table{number}.json").read_text("utf-8"))


def paper_defenses() -> list[str]:
    """The defenses of the paper's Table 2, in its order."""
    return [row["defense"] for row in published(2)["rows"] if row["defense"] != "none"]


def paper_recovered(attack: str) -> dict[str, float]:
    """The paper's share of the lost recall that each defense brings back, percent, computed from its R@10.

    Args:
        attack: label, such as ``MEM-3``.
    """
    recalls = {(row["attack"], row["defense"]): (row["R@10 I→T"] + row["R@10 T→I"]) / 2 for row in published(2)["rows"]}
    if (attack, "none") not in recalls or ("Clean", "none") not in recalls:
        return {}
    undefended, clean = recalls[attack, "none"], recalls["Clean", "none"]
    return {
        defense: 100 * (recall - undefended) / (clean - undefended)
        for (label, defense), recall in recalls.items()
        if label == attack and defense != "none"
    }


def in_order(specs: Iterable[str]) -> list[str]:
    """Defenses in one fixed order: none, those of the paper as it lists them, others by name, combinations last.

    Variants of one stand in the order of their numbers. The order does not depend on what is installed, so that the
    same records always give the same table.
    """
    rank = {name: place for place, name in enumerate(["none", *paper_defenses()])}

    def place(spec: str) -> tuple[int, list[tuple[int, str]], tuple[list[str | float], str]]:
        names = [parse_spec(part).name for part in split_outside_brackets(spec, "+")]
        return len(names), [(rank.get(name, len(rank)), name) for name in names], by_number(spec)

    return sorted(specs, key=place)


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
    found = [paper.get((labels[attack], without_parameters(defense), what)) for attack, defense, what in ours]
    column = pd.Series(found, index=cells.index, dtype=float)
    return cells.assign(paper=column, difference=cells["mean"] - column)


def without_parameters(defense: str) -> str:
    """A defense's name without parameters, as the paper gives none; a composition, which it has not, stays whole."""
    return defense if "+" in defense else parse_spec(defense).name


def paper_notes(number: int) -> list[str]:
    """Where the paper's values come from, and what is to be said of them."""
    data = published(number)
    source = f"Paper: {data['table']} ({data['setting']}); {data['source']}."
    return [source, "Δ: ours less the paper's.", *data["remarks"]]

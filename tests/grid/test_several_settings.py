"""Several settings that run as one grid."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import benchmark as ub
from benchmark.core.errors import UsageError
from benchmark.core.threads import limited_threads
from tests.grid.grids import ATTACK, SCENES, results

pytestmark = pytest.mark.usefixtures("registries_as_they_were")


def settings(out: Path, **others: Any) -> ub.RunSettings:
    """A small grid of its own folders."""
    small: dict[str, Any] = {
        "attack": "clean",
        "defense": "none",
        "dataset": SCENES,
        "out": out,
        "poisons": str(out / "poisons"),
        "device": "cpu",
        "precision": "fp32",
        "epochs": 1,
        "batch_size": 16,
        "victim": "mini",
        "surrogate": "mini",
        "plugin": (Path(__file__).with_name("mini_plugin.py"),),
    }
    return ub.RunSettings(**{**small, **others})


def test_together_they_make_what_each_makes_alone(tmp_path: Path) -> None:
    parts: list[dict[str, Any]] = [
        {"attack": ATTACK, "victim": "mini,mini[repeat=2]"},
        {"attack": ATTACK, "defense": "none,cutout"},
        {"defense": "random-swap", "seeds": "1,3"},
    ]
    one, two = tmp_path / "one", tmp_path / "two"
    with limited_threads(1):
        for part in parts:
            ub.run(settings(one, **part))
    together = [settings(two, jobs=2, **part) for part in parts]
    records = ub.run(*together)
    # Clean and MEM undefended for two victims, MEM under cutout; clean under random-swap, and both for another seed.
    assert len({record.key for record in records}) == len(records) == 4 + 1 + 1 + 2
    assert results(two) == results(one)
    # Each names the first command that asks for it.
    commands = [record.provenance["command"] for record in records]
    assert commands == [
        part.to_command() for part, count in zip(together, (4, 1, 3), strict=True) for _ in range(count)
    ]


def test_they_differ_in_their_cells_alone(tmp_path: Path) -> None:
    first = settings(tmp_path)
    others: list[dict[str, Any]] = [
        {"precision": "bf16"},
        {"dataset": "openmoji"},
        {"out": tmp_path / "other"},
        {"epochs": 2},
    ]
    for other in others:
        with pytest.raises(UsageError, match="settings that run together may differ in attack, defense"):
            ub.run(first, replace(first, **other))

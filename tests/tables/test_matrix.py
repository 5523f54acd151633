"""The matrix attack × defense against hand-worked numbers."""

from statistics import stdev

import pandas as pd
import pytest

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record
from benchmark.tables.make import make_tables
from benchmark.tables.render import render
from benchmark.tables.table import Table
from tests.tables.factory import SCENES, record


def matrix(*records: Record) -> Table:
    (table,) = make_tables("matrix", records)
    return table


def cell(table: Table, row: str, column: str) -> "pd.Series[float]":
    found = table.cells[(table.cells["row"] == row) & (table.cells["column"] == column)]
    assert len(found) == 1
    return found.iloc[0]


def several() -> list[Record]:
    cells = {
        ("clean", "none"): 50.0, ("clean", "cutout"): 40.0, ("mem3", "none"): 10.0, ("mem3", "cutout"): 12.0,
        ("mem3", "prefix-drop"): 48.0, ("em", "none"): 25.0, ("em", "adv-training"): 45.0, ("mem7", "none"): 5.0,
    }  # fmt: skip
    return [record(attack, defense, recalls=(r + 2, r - 2)) for (attack, defense), r in cells.items()]


def test_each_cell_is_the_share_of_the_loss_that_comes_back() -> None:
    table = matrix(*several())
    assert table.rows == ("MEM-3", "EM", "MEM-7", "Clean data: kept %")
    assert list(table.columns) == ["lost %", "Adv training", "Cutout", "Prefix drop"]
    assert cell(table, "MEM-3", "lost %")["mean"] == pytest.approx(80)
    assert cell(table, "MEM-3", "Cutout")["mean"] == pytest.approx(100 * 2 / 40)
    assert cell(table, "MEM-3", "Prefix drop")["mean"] == pytest.approx(100 * 38 / 40)
    assert cell(table, "EM", "Adv training")["mean"] == pytest.approx(100 * 20 / 25)
    assert cell(table, "Clean data: kept %", "Cutout")["mean"] == pytest.approx(80)
    lines = render([table], "markdown").split("\n")
    (em,) = (line for line in lines if line.startswith("| EM "))
    assert [part.strip() for part in em.strip("|").split("|")][1:] == ["50.0", "**80.0**", "–", "–"]


def test_the_worst_defense_of_each_attack_is_marked() -> None:
    table = matrix(*several())
    marked = table.cells[table.cells["best"]]
    assert set(zip(marked["row"], marked["column"], strict=True)) == {
        ("MEM-3", "Prefix drop"), ("EM", "Adv training"),
    }  # fmt: skip


def test_nothing_is_marked_where_there_is_nothing_to_rank() -> None:
    harmless = [record("clean", recalls=(50, 50)), record("em", recalls=(45, 45)), record("em", "cutout")]
    table = matrix(*harmless)
    assert not table.cells["best"].any()
    assert "Not ranked, as the attack takes less than 20 % of the clean recall: EM." in table.notes
    facts = {**SCENES, "test_images": 20, "test_captions": 100}  # where chance is 41.6 and 50.0
    levels = (("clean", "none", 42.0), ("mem3", "none", 20.0), ("mem3", "cutout", 40.0))
    table = matrix(*(record(attack, defense, recalls=(r, r), facts=facts) for attack, defense, r in levels))
    assert not table.cells["best"].any()
    assert any(note.startswith("Near chance: ") for note in table.notes)


def test_the_spread_is_that_of_pairs() -> None:
    """Seeds whose recall differs by 30 points, but whose shares are alike: the loss of each comes back but for 1 %."""
    records = []
    for seed, clean in ((1, 40.0), (2, 70.0), (3, 55.0)):
        records += [record("clean", recalls=(clean, clean), seed=seed), record("mem3", recalls=(10, 10), seed=seed)]
        back = 10 + 0.99 * (clean - 10)
        records.append(record("mem3", "cutout", recalls=(back, back), seed=seed))
    found = cell(matrix(*records), "MEM-3", "Cutout")
    assert found["mean"] == pytest.approx(99)
    assert found["std"] == pytest.approx(0, abs=1e-9)
    # Where every seed loses 40 points, the shares differ by what comes back alone.
    level = [record("clean", recalls=(50, 50), seed=seed) for seed in (1, 2, 3)]
    spread = cell(matrix(*level, *(one for one in records if one.attack.spec == "mem3")), "MEM-3", "Cutout")["std"]
    assert spread == pytest.approx(stdev(99 * (clean - 10) / 40 for clean in (40.0, 70.0, 55.0)))


def test_a_matrix_needs_a_defended_victim_and_a_clean_one() -> None:
    for records in ([record("clean"), record("mem3")], [record("mem3"), record("mem3", "cutout")]):
        with pytest.raises(UsageError, match="no defended victim beside a clean one"):
            matrix(*records)

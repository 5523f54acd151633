"""The table of cost against hand-worked numbers."""

from dataclasses import replace

import pandas as pd
import pytest

from benchmark.grid.records import Record
from benchmark.tables.cost import poison_mib, rows_per_second
from benchmark.tables.make import make_tables
from tests.tables.factory import SCENES, record

FACTS = {**SCENES, "train_captions": 20_000}


def test_every_stage_lands_in_its_own_cell() -> None:
    records = [
        record("clean", seconds={"craft": 0.001, "train": 100.0, "evaluate": 4.0}, memory={"craft": 700.0}),
        record(
            "mem3",
            "cutout",
            seconds={"craft": 300.0, "train": 200.0, "evaluate": 5.0},
            memory={"craft": 800.0, "train": 900.0},
        ),
        record("mem3", "cutout", seed=2, seconds={"craft": 310.0, "train": 220.0, "evaluate": 5.0}),
    ]
    (table,) = make_tables("cost", records)
    assert table.rows == ("Clean × None", "MEM-3 × Cutout")
    cells = table.cells.set_index(["row", "column"])["mean"].to_dict()
    assert (cells["MEM-3 × Cutout", "craft s"], cells["MEM-3 × Cutout", "train s"]) == (305, 210)
    assert (cells["MEM-3 × Cutout", "evaluate s"], cells["MEM-3 × Cutout", "peak MiB, train"]) == (5, 900)
    assert cells["MEM-3 × Cutout", "peak MiB, craft"] == 800
    assert pd.isna(cells["Clean × None", "craft s"])
    assert pd.isna(cells["Clean × None", "peak MiB, craft"])
    assert pd.isna(cells["Clean × None", "δ MiB"])
    assert table.seeds == {"Clean × None": "1", "MEM-3 × Cutout": "1–2"}


@pytest.mark.parametrize(
    ("rows", "facts", "expected"),
    # 14 epochs in 100 s: 4,000 rows less an incomplete batch of 32, or 20,000 less one of 32.
    [("images", FACTS, 14 * 3968 / 100), ("pairs", FACTS, 14 * 19_968 / 100), ("pairs", SCENES, None)],
)
def test_rows_a_second_leave_the_incomplete_batch_out(rows: str, facts: dict[str, int], expected: float | None) -> None:
    one = record(recipe={"rows": rows, "batch_size": 128}, facts=facts, seconds={"train": 100.0})
    assert rows_per_second(one) == (None if expected is None else pytest.approx(expected))


def test_a_recipe_that_says_nothing_of_epochs_has_no_speed() -> None:
    one = record(recipe={"batch_size": 128}, facts=FACTS, seconds={"train": 100.0})
    assert rows_per_second(replace(one, recipe={"batch_size": 128})) is None


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (record("mem3", facts=FACTS), 4000 * 3 * 64 * 64 / 2**20),
        (record("mem3", facts=FACTS, params={"per": "row"}), 20_000 * 3 * 64 * 64 / 2**20),
        (record("mem3", facts=FACTS, poison={"per": "row"}), 20_000 * 3 * 64 * 64 / 2**20),  # a stored one
        (record("mem3", facts=SCENES, params={"per": "row"}), None),
        (record("trigger-only", facts=FACTS, poison={"psnr": None}), 0),
        (record("clean", facts=FACTS), None),
    ],
)
def test_noise_takes_a_byte_a_value(one: Record, expected: float | None) -> None:
    assert poison_mib(one) == expected


def test_a_failed_cell_costs_nothing_that_is_known() -> None:
    (table,) = make_tables("cost", [record("clean"), record("mem3", failed="boom")])
    cells = table.cells[table.cells["row"] == "MEM-3 × None"]
    assert cells["mean"].isna().all()
    assert cells["failed"].all()

"""The table of cost against hand-worked numbers."""

import pandas as pd
import pytest

from benchmark.grid.records import Record
from benchmark.tables.cost import poison_mib, rows_per_second
from benchmark.tables.make import make_tables
from tests.tables.factory import record


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
    ("rows", "expected"),
    # 14 epochs in 100 s: 4,000 rows less an incomplete batch of 32, or 20,000 less one of 32.
    [("images", 14 * 3968 / 100), ("pairs", 14 * 19_968 / 100)],
)
def test_rows_a_second_leave_the_incomplete_batch_out(rows: str, expected: float) -> None:
    one = record(recipe={"rows": rows}, seconds={"train": 100.0})
    assert rows_per_second(one) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (record("mem3"), 4000 * 3 * 64 * 64 / 2**20),
        (record("mem3", poison={"per": "row"}), 20_000 * 3 * 64 * 64 / 2**20),
        (record("trigger-only", poison={"psnr": None}), 0),
        (record("clean"), None),
    ],
)
def test_noise_takes_a_byte_a_value(one: Record, expected: float | None) -> None:
    assert poison_mib(one) == expected


def test_a_failed_cell_costs_nothing_that_is_known() -> None:
    (table,) = make_tables("cost", [record("clean"), record("mem3", failed="boom")])
    cells = table.cells[table.cells["row"] == "MEM-3 × None"]
    assert cells["mean"].isna().all()
    assert cells["failed"].all()

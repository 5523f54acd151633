"""Quick tests of what is made of the times: the table and the extrapolated hours."""

from typing import Any

import pytest

from tests.benchmarks.hours import table2_hours
from tests.tools.speed_table import markdown

MACHINE = {"name": "A Card", "cores": 16, "threads": 8, "torch": "2.6.0", "precision": "bf16"}
STEP = {
    "stage": "PGD step",
    "model": "RN50, 224 px",
    "batch": 32,
    "seconds": 0.5,
    "seconds_per_row": 0.015625,
    "rows_per_second": 64.0,
    "flop_per_second": 250e9,
    "share_of_peak": 0.25,
    "matmul_peak": 1e12,
}
OTHER = {"stage": "poison load", "items": 4000, "seconds": 2.0, "items_per_second": 2000.0}


def report(*figures: dict[str, Any]) -> dict[str, Any]:
    commit = {"id": "0123456789abcdef", "dirty": True}
    benchmarks = [{"extra_info": one} for one in figures]
    return {"machine_info": {"bench": MACHINE}, "commit_info": commit, "benchmarks": benchmarks}


def cells(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_facts_of_a_large_run() -> None:
    text = markdown(report({"facts": {"most memory": "900 MiB", "a round of crafting": ""}}))
    assert "- most memory: 900 MiB\n- a round of crafting:" in text
    assert "-m large" in text
    assert "-m speed" in markdown(report(STEP))


def test_profile_of_a_step() -> None:
    seconds = {"image tower, forward": 0.03, "optimizer": 0.01}
    text = markdown(report({"profile": {"model": "tiny", "batch": 128, "seconds": seconds}}))
    assert cells(text, "image tower") == ["image tower, forward", "30 ms", "75%"]
    assert cells(text, "whole step") == ["whole step", "40 ms", "3,200 rows/s"]


def test_table_of_a_run() -> None:
    text = markdown(report(STEP, OTHER, {"hours": 12.34}, {}))
    assert "A Card, 16 cores, torch 2.6.0" in text
    assert "commit `0123456789ab` with changes." in text
    assert "1,000 GFLOP/s" in text
    assert "12.3 hours" in text
    assert cells(text, "PGD step") == ["PGD step", "RN50, 224 px", "32", "500 ms", "15.62", "64", "250", "25"]
    assert cells(text, "poison load") == ["poison load", "4,000", "2 s", "2,000"]


def test_table_of_a_run_without_models() -> None:
    text = markdown(report(OTHER))
    assert "GFLOP" not in text
    assert "hours" not in text


def test_hours_add_up() -> None:
    hours = table2_hours(
        {
            "surrogate step": 1.0,
            "HotFlip pass": 2.0,
            "crafting round": 6.0,
            "victim step": 1.0,
            "adversarial victim step": 4.0,
        }
    )
    # 20 rounds of 200 surrogate steps of 128; in 5 rounds HotFlip and the rest (2 + 3), in 15 the rest.
    crafting = 20 * 200 * 128 * 1 + 29_000 * (5 * 5 + 15 * 3)
    # Eleven plain steps, and ten PGD steps of one second each.
    training = 32 * 145_000 * (11 + 10)
    assert hours == pytest.approx((crafting + training) / 3600)

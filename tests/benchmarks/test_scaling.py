"""Crafting's cost per row, flat from 1,000 rows on: ``python -m pytest tests/benchmarks/test_scaling.py -m large
--benchmark-enable``. With ``-k "1000 or 3000"`` and so on only some sizes run."""

from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from attacks.base import CraftContext
from attacks.mem import Mem
from tests.small import make_mapped_dataset
from victims.architecture import Architecture
from victims.clip import Clip

pytestmark = pytest.mark.large
BATCH = 128
PER_ROW: dict[int, float] = {}  # seconds, of the sizes that have run


def surrogate() -> Clip:
    return Architecture("tiny").build(1, torch.device("cpu"))


@pytest.mark.parametrize("rows", [1_000, 3_000, 10_000, 30_000])
def test_cost_per_row(benchmark: BenchmarkFixture, rows: int, tmp_path: Path) -> None:
    train = make_mapped_dataset(tmp_path / "images.npy", rows, 5, 64)
    # Every stage sees every row once: M steps of the surrogate are one pass.
    attack = Mem(
        k=3,
        rounds=1,
        surrogate_steps=rows // BATCH,
        pgd_steps=1,
        hotflip_rounds=1,
        candidates=2,
        vocabulary=12,
        batch_size=BATCH,
    )
    warm = Mem(k=3, rounds=1, surrogate_steps=1, pgd_steps=1, candidates=2, vocabulary=12, batch_size=BATCH)
    few = make_mapped_dataset(tmp_path / "warm.npy", BATCH, 5, 64)
    warm.craft(few, CraftContext(lambda _: surrogate(), seed=1, workdir=tmp_path))
    model = surrogate()  # built before the clock starts
    context = CraftContext(lambda _: model, seed=1, workdir=tmp_path)
    benchmark.pedantic(attack.craft, (train, context), rounds=1)
    PER_ROW[rows] = benchmark.stats.stats.min / rows
    said = f"{1000 * PER_ROW[rows]:.2f} ms per row"
    benchmark.extra_info["facts"] = {f"crafting on {rows:,} rows at 64 px, one step of each kind": said}
    assert max(PER_ROW.values()) < 1.5 * min(PER_ROW.values())

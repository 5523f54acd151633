"""The operations that tools count: Muon's products by their formula, and AdamW's, of which there are none."""

import math
from dataclasses import replace

import pytest
import torch

from benchmark.grid.presets import PRESETS
from tests.benchmarks.flops import optimizer_step
from victims.architecture import Architecture
from victims.optimizers import make_optimizer

RECIPE = PRESETS["micro"].recipe
VICTIM = PRESETS["micro"].victim


def test_a_step_of_muon_multiplies_each_matrix_five_times() -> None:
    """X of m ≤ n: A = XXᵀ, then bA + cAA, then times X; 4m²n + 2m³ operations, five times."""
    model = Architecture(VICTIM).build(0, torch.device("cpu"), "fp32")
    (matrices,) = (group["params"] for group in make_optimizer(model, RECIPE).param_groups if group["use_muon"])
    expected = 0
    for weight in matrices:
        m, n = sorted((len(weight), math.prod(weight.shape[1:])))
        expected += 5 * (4 * m * m * n + 2 * m**3)
    assert expected > 1e9
    assert optimizer_step(VICTIM, RECIPE) == pytest.approx(expected, rel=1e-9)


def test_adamw_multiplies_no_matrices() -> None:
    assert optimizer_step(VICTIM, replace(RECIPE, optimizer="adamw")) == 0

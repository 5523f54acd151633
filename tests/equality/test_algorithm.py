"""A whole crafting run, round by round, against Algorithm 1 written down plainly, in fp64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attacks.base import CraftContext
from attacks.mem import Mem
from tests.equality import plain
from tests.small import make_dataset, small_clip
from victims.clip import Clip

SETTINGS: dict[str, Any] = {
    "rounds": 3,
    "surrogate_steps": 4,
    "pgd_steps": 2,
    "step_size": 2,
    "hotflip_rounds": 2,
    "candidates": 3,
    "vocabulary": 8,
    "batch_size": 6,
    "lr": 1e-3,
}


class InDouble(Clip):
    """A surrogate whose pixels are fp64, as its weights are; crafting hands them over as uint8 or fp32."""

    def encode_images(self, images: torch.Tensor, text: torch.Tensor | None = None) -> torch.Tensor:
        whole = images.double() * (1 if images.dtype == torch.uint8 else 255)
        # The value is a whole number / 255 to the last bit, the gradient that of the pixels handed over.
        return super().encode_images((whole + (whole.round() - whole).detach()) / 255)


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"k": 2, "permute_pgd": False},
        {"k": 2},
        {"k": 2, "permute_surrogate": True, "restart_every": 1},
        {"k": 0, "permute_images": True, "restart_every": 2},
        {"k": 2, "permute_images": True},
        {"k": 2, "permute_surrogate": True, "place": "end"},
        {"k": 2, "place": "random"},
        {"k": 3, "place": "spread"},
    ],
    ids=[
        "EM",
        "no permutation",
        "Algorithm 1",
        "as in preset tiny",
        "EM as in preset tiny",
        "images permuted",
        "end",
        "random",
        "spread",
    ],
)
def test_noise_and_triggers_equal_those_of_the_plain_algorithm(options: dict[str, Any], tmp_path: Path) -> None:
    data = make_dataset(14, 2)  # batches of 5, 5 and 4 rows
    attack = Mem(**SETTINGS, **options)

    def surrogate(seed: int) -> Clip:
        return InDouble(small_clip(seed=seed), torch.device("cpu"), "fp32")

    poison = attack.craft(data, CraftContext(surrogate, seed=7, workdir=tmp_path))
    delta, trigger, losses = plain.craft(data, attack, seed=7)
    assert poison.delta is not None
    assert (np.asarray(poison.delta, dtype=int) != delta.numpy()).mean() < 1e-4  # gradients that are zero but rounding
    assert np.abs(poison.delta).max() > 6  # the noise is carried on from round to round
    assert poison.trigger == trigger
    assert poison.provenance["loss_per_round"] == pytest.approx(losses, rel=1e-6)

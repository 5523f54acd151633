"""The opposite step: images move down the loss, by so much and no further, once the victim has learned something."""

import pytest
import torch

from defenses import HookContext
from defenses.opposite_step import OppositeStep
from tests.defenses.test_adv_training import clip_loss_of, images

AT = HookContext(seed=3, progress=0.5)


def test_moves_by_hand() -> None:
    # The loss of three pixels p is 2p₁ − 3p₂ + p₃; 25.5/255 is a tenth. Black cannot become darker.
    pixels = torch.tensor([0.5, 0.5, 0.0]).view(1, 3, 1, 1)
    weight = torch.tensor([2.0, -3.0, 1.0]).view(1, 3, 1, 1)
    found = OppositeStep(eps=25.5).adversarial(pixels, lambda x, reduction="mean": (weight * x).sum(), AT)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.4, 0.6, 0.0]))


@pytest.mark.parametrize(("lowest", "end"), [(0.55, 0.5), (0.62, 0.7)])
def test_every_step_goes_from_where_the_last_one_led(lowest: float, end: float) -> None:
    # (p − 0.55)² falls up to 0.55: two steps of a tenth from 0.5 lead to 0.6 and back, or on where it falls up to 0.62.
    pixels = torch.full((1, 3, 1, 1), 0.5)
    found = OppositeStep(eps=51, steps=2).adversarial(
        pixels, lambda x, reduction="mean": (x - lowest).square().sum(), AT
    )
    torch.testing.assert_close(found, torch.full_like(pixels, end))


@pytest.mark.parametrize("steps", [1, 4])
def test_the_clip_loss_falls(steps: int) -> None:
    loss = clip_loss_of()
    found = OppositeStep(steps=steps).adversarial(images(), loss, AT)
    with torch.no_grad():
        assert float(loss(found)) < float(loss(images())) - 1
    assert float((found - images()).abs().max()) <= 8 / 255 + 1e-6


@pytest.mark.parametrize(("progress", "moves"), [(0.0, False), (0.19, False), (0.2, True), (0.99, True)])
def test_begins_after_its_start(progress: float, moves: bool) -> None:
    found = OppositeStep().adversarial(images(), clip_loss_of(), HookContext(seed=3, progress=progress))
    assert torch.equal(found, images()) != moves

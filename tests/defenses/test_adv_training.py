"""Adversarial training: the loss rises, within the ball, on the share and at the time that were asked for."""

import pytest
import torch

from defenses import HookContext
from defenses.adv_training import AdvTraining, signed_step
from defenses.base import Loss, Reduction
from tests.small import make_clip
from victims.clip import clip_loss, fixed_model

AT = HookContext(seed=3, progress=0.5)


def images(count: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def clip_loss_of() -> Loss:
    clip = make_clip().train()
    text = clip.encode_tokens(clip.tokenizer([f"{word} day" for word in "red green dog cat sun moon car boat".split()]))
    text = text.detach()

    def loss(points: torch.Tensor, reduction: Reduction = "mean") -> torch.Tensor:
        with fixed_model(clip):
            return clip_loss(clip.encode_images(points), text, clip.scale.detach(), reduction=reduction)

    return loss


@pytest.mark.parametrize("eps", [1, 2, 8])
def test_the_clip_loss_rises(eps: float) -> None:
    loss, clean = clip_loss_of(), images()
    with torch.no_grad():
        before = float(loss(clean))
    adversarial = AdvTraining(eps=eps, steps=5).adversarial(clean, loss, AT)
    with torch.no_grad():
        assert float(loss(adversarial)) > before + 1


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_equals_a_plain_loop(strength: float) -> None:
    """Radius and steps grow together."""
    clean = images(2)
    weight = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    found = AdvTraining(eps=8, steps=3, step_size=2, ramp=1).adversarial(
        clean, lambda x, reduction="mean": (weight * x.square()).sum(), HookContext(seed=3, progress=strength)
    )
    eps = strength * 8 / 255
    generator = torch.Generator().manual_seed(3)
    torch.randperm(2, generator=generator)
    start = (torch.rand(clean.shape, generator=generator) * 2 - 1) * eps
    point = (clean + start).clamp(0, 1)
    for _ in range(3):
        point = point + strength * 2 / 255 * (2 * weight * point).sign()
        point = point.clamp(min=clean - eps, max=clean + eps).clamp(0, 1)
    torch.testing.assert_close(found, point, rtol=0, atol=1e-6)


def test_images_stay_in_the_ball_and_in_range() -> None:
    clean = images()
    clean[0], clean[1] = 0, 1
    found = AdvTraining(eps=8, steps=10).adversarial(clean, clip_loss_of(), AT)
    assert float((found - clean).abs().max()) <= 8 / 255 + 1e-6
    assert float((found - clean).abs().mean()) > 4 / 255
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


@pytest.mark.parametrize(("share", "moving"), [(0.5, 4), (0.35, 3), (0.05, 1)])
def test_only_a_random_share_of_a_batch_moves(share: float, moving: int) -> None:
    """Of eight images the nearest number, and one at least."""
    clean, rows = images(), set[tuple[bool, ...]]()
    for seed in range(3):
        found = AdvTraining(share=share, steps=1).adversarial(clean, clip_loss_of(), HookContext(seed, 0.5))
        moved = (found != clean).flatten(1).any(dim=1)
        assert int(moved.sum()) == moving
        assert torch.equal(found[~moved], clean[~moved])
        rows.add(tuple(moved.tolist()))
    assert len(rows) > 1


@pytest.mark.parametrize(("progress", "radius"), [(0.0, 0), (0.29, 0), (0.3, 0), (0.5, 4), (0.7, 8), (0.99, 8)])
def test_the_radius_grows_after_the_start(progress: float, radius: float) -> None:
    defense = AdvTraining(eps=8, steps=3, start=0.3, ramp=0.4)
    found = defense.adversarial(images(), clip_loss_of(), HookContext(seed=1, progress=progress))
    assert float((found - images()).abs().max()) * 255 == pytest.approx(radius, abs=0.01)


def test_step_size_defaults_to_two_and_a_half_radii_over_the_steps() -> None:
    assert "10 PGD steps of 2/255" in AdvTraining(eps=8, steps=10).describe()
    assert "3 PGD steps of 6.67/255" in AdvTraining(eps=8, steps=3).describe()


def test_a_signed_step_climbs_and_projects() -> None:
    clean = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)
    gradient = torch.tensor([-1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    near = signed_step(clean, clean, gradient, 0.1, 0.25)
    torch.testing.assert_close(near.flatten(), torch.tensor([0.0, 0.6, 1.0]))
    far = signed_step(near, clean, gradient, 0.5, 0.25)
    torch.testing.assert_close(far.flatten(), torch.tensor([0.0, 0.75, 1.0]))


def test_it_begins_with_the_epoch_that_it_names() -> None:
    """As the second epoch of five does with a start of a fifth."""
    assert [AdvTraining(start=0.2, ramp=0)._strength(progress) for progress in (0.19, 0.2)] == [0, 1]

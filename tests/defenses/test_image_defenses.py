"""Noise, cutout, mixup, JPEG and crops change pixels and targets by the amount they claim."""

import pytest
import torch
from torchvision.io import decode_jpeg, encode_jpeg  # type: ignore[import-untyped]

from defenses.crop_flip import CropFlip
from defenses.cutout import Cutout
from defenses.jpeg import Jpeg
from defenses.mixup import Mixup
from defenses.random_noise import RandomNoise
from tests.defenses.hooks import at, pictures


@pytest.mark.parametrize("std", [4.0, 16.0])
def test_noise_is_white_with_the_std_asked_for(std: float) -> None:
    noise = (RandomNoise(std).on_images(torch.full((64, 3, 32, 32), 0.5), at(0)) - 0.5) * 255 / std
    assert noise.std().item() == pytest.approx(1, rel=0.01)
    assert abs(noise.mean().item()) < 0.01
    for neighbour in (noise.roll(1, 0), noise.roll(1, 1), noise.roll(1, 2), noise.roll(1, 3)):
        assert abs((noise * neighbour).mean().item()) < 0.01
    within_one, within_two = (noise.abs() < 1).float().mean().item(), (noise.abs() < 2).float().mean().item()
    assert (within_one, within_two) == (pytest.approx(0.683, abs=0.01), pytest.approx(0.954, abs=0.005))


def test_noise_hits_every_image_at_every_step() -> None:
    images = pictures(64)
    for seed in range(20):
        assert (RandomNoise().on_images(images, at(seed)) != images).flatten(1).float().mean(1).min() > 0.9


def test_noise_is_clamped_to_the_range_of_pixels() -> None:
    for edge in (0.0, 1.0):
        noisy = RandomNoise().on_images(torch.full((4, 3, 16, 16), edge), at(0))
        assert ((noisy >= 0) & (noisy <= 1)).all()
        assert (noisy == edge).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_mixup_equals_the_plain_loop() -> None:
    images = pictures(9)
    mixed, targets = Mixup().on_batch(images, torch.eye(9), at(4))
    weight = targets.diagonal().min().item()
    assert 0 < weight < 1
    for row in range(9):
        others = [column for column in range(9) if column != row and targets[row, column] > 0]
        partner = others[0] if others else row
        assert len(others) <= 1
        torch.testing.assert_close(mixed[row], weight * images[row] + (1 - weight) * images[partner])
        wanted = torch.zeros(9)
        wanted[row] += weight
        wanted[partner] += 1 - weight
        torch.testing.assert_close(targets[row], wanted)


def test_mixup_targets_are_doubly_stochastic_and_explain_the_pixels_also_when_composed() -> None:
    images = pictures(16)
    mixed, targets = images, torch.eye(16)
    for seed in (1, 2, 3):
        mixed, targets = Mixup().on_batch(mixed, targets, at(seed))
        torch.testing.assert_close(targets.sum(0), torch.ones(16))
        torch.testing.assert_close(targets.sum(1), torch.ones(16))
        torch.testing.assert_close(mixed, torch.einsum("ij,jchw->ichw", targets, images))
    assert (targets > 0).sum(1).max() > 2


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup_weights_follow_the_beta_distribution(alpha: float) -> None:
    images, eye = torch.zeros(16, 3, 1, 1), torch.eye(16)
    drawn = torch.stack([Mixup(alpha).on_batch(images, eye, at(seed))[1].diagonal().min() for seed in range(2000)])
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.03)
    assert drawn.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)


def test_mixup_keeps_white_white() -> None:
    for seed in range(200):
        assert (Mixup().on_batch(torch.ones(4, 3, 2, 2), torch.eye(4), at(seed))[0] == 1).all()


@pytest.mark.parametrize(("height", "width", "size", "side"), [(16, 16, 0.5, 8), (20, 33, 0.35, 7), (9, 9, 0.01, 1)])
def test_cutout_fills_one_exact_square_and_nothing_else(height: int, width: int, size: float, side: int) -> None:
    images = pictures(400, height, width)
    cut = Cutout(size).on_images(images, at(5))
    interior, seen = 0, set()
    for before, after in zip(images, cut, strict=True):
        removed = (before != after).any(0)
        rows, columns = removed.any(1).nonzero().flatten(), removed.any(0).nonzero().flatten()
        top, bottom, left, right = (int(edge) for edge in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
        # Contiguous, filled with the mean colour, and every other pixel bit-equal.
        assert removed.sum() == (bottom - top) * (right - left)
        assert torch.equal(
            after[:, removed], torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None].expand(-1, int(removed.sum()))
        )
        for first, last, length in ((top, bottom, height), (left, right, width)):
            assert last - first == side or (last - first < side and (first == 0 or last == length))
        interior += int(removed.sum()) == side * side
        seen.add((top, bottom, left, right))
    assert interior > 40
    assert len(seen) > 40


def test_cutout_centres_are_uniform_over_the_image() -> None:
    images = pictures(6000)
    removed = (Cutout(0.5).on_images(images, at(6)) != images).any(1).float().mean(0)
    covers = torch.tensor([[centre - 4 <= pixel < centre + 4 for pixel in range(16)] for centre in range(16)])
    along = covers.float().mean(0)
    torch.testing.assert_close(removed, along[:, None] * along, atol=0.03, rtol=0)


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_jpeg_gives_what_another_codec_reads(quality: int) -> None:
    images = torch.nn.functional.interpolate(pictures(4, 8, 8), size=(32, 32), mode="bilinear")
    seen = Jpeg(quality).on_images(images, at(0))
    for image, compressed in zip(images, seen, strict=True):
        encoded = encode_jpeg((image * 255).round().to(torch.uint8), quality)
        assert (compressed * 255 - decode_jpeg(encoded)).abs().mean() < 1.0
    assert ((seen * 255) - (seen * 255).round()).abs().max() < 1e-3


def test_lower_quality_removes_more_and_its_gradient_is_the_identity() -> None:
    images = pictures(4, 32, 32).requires_grad_()
    changes = [(Jpeg(quality).on_images(images, at(0)) - images).abs().mean().item() for quality in (90, 50, 10)]
    assert 0 < changes[0] < changes[1] < changes[2]
    Jpeg(10).on_images(images, at(0)).sum().backward()
    assert images.grad is not None
    assert torch.equal(images.grad, torch.ones_like(images))


def test_a_crop_of_everything_is_the_image_or_its_mirror_image() -> None:
    images = pictures(6)
    assert torch.allclose(CropFlip(smallest=1, flip=0).on_images(images, at(1)), images, atol=1e-5)
    assert torch.allclose(CropFlip(smallest=1, flip=1).on_images(images, at(1)), images.flip(-1), atol=1e-5)


def test_a_crop_shows_a_part_of_the_area_asked_for_inside_the_image() -> None:
    ramp = torch.linspace(0.5 / 64, 1 - 0.5 / 64, 64)
    across = ramp.expand(200, 3, 64, 64)
    for images, axis in ((across, -1), (across.transpose(-1, -2), -2)):
        seen = CropFlip(smallest=0.25, flip=0).on_images(images, at(2))
        # Of a ramp from 0 to 1, the part's ends are where it lies; half a pixel at each edge is padding.
        inner = seen.narrow(axis, 2, 60).diff(dim=axis).mean((1, 2, 3)) * 64
        assert ((inner > 0.49) & (inner < 1.01)).all()
        assert (inner**2).mean().item() == pytest.approx(0.625, abs=0.04)  # areas are uniform
        assert seen.mean((1, 2, 3)).std() > 0.05
        assert seen.mean().item() == pytest.approx(0.5, abs=0.03)


def test_a_crop_lies_across_and_down_independently() -> None:
    ramp = torch.linspace(0, 1, 32)
    picture = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), torch.zeros(32, 32)])
    seen = CropFlip(smallest=0.25, flip=0).on_images(picture.expand(400, -1, -1, -1), at(2))
    # Of independent places, four standard deviations of the correlation are 0.2.
    assert torch.corrcoef(seen.mean((2, 3))[:, :2].T)[0, 1].abs() < 0.2


def test_half_of_the_crops_are_mirrored() -> None:
    ramp = torch.linspace(0, 1, 32).expand(400, 3, 32, 32)
    rising = CropFlip().on_images(ramp, at(3)).diff(dim=-1).mean((1, 2, 3)) > 0
    assert rising.float().mean().item() == pytest.approx(0.5, abs=0.08)

"""Strong augmentation draws what it says, and UEraser trains on the worst draw."""

import colorsys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torchvision.transforms import RandomResizedCrop  # type: ignore[import-untyped]
from torchvision.transforms.functional import resized_crop  # type: ignore[import-untyped]

from benchmark.core.seeding import seeded_globals
from benchmark.core.spec import Spec
from defenses import DEFENSES
from defenses.base import Reduction
from defenses.strong_augment import StrongAugment
from defenses.ueraser import UEraser
from tests.defenses.hooks import at

SIDE = 40


def strong(picture: torch.Tensor, count: int, s: float) -> torch.Tensor:
    """(count, 3, H, W): one picture augmented often. Pictures of one size get the same draws."""
    return StrongAugment(s).on_images(picture.expand(count, 3, *picture.shape[1:]), at(2))


def colour(red: float, green: float, blue: float, side: int = 4) -> torch.Tensor:
    return torch.tensor([red, green, blue])[:, None, None].expand(-1, side, side)


@pytest.mark.parametrize("s", [1.0, 0.5])
def test_crops_are_torchvisions_and_their_areas_and_shapes_those_of_the_paper(s: float) -> None:
    count, ramp = 600, (torch.arange(SIDE) + 0.5) / SIDE
    texture = torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    # Where colours are left alone, two ramps tell which part of the third picture each image shows.
    alone = ((strong(colour(0.5, 0.5, 0.5, SIDE), count, s=s) - 0.5).abs() < 1e-5).all(3).all(2).all(1)
    assert alone.float().mean().item() == pytest.approx(1 - 0.8 * s, abs=0.05)
    down = strong(ramp[None, :, None].expand(1, SIDE, SIDE), count, s=s)[alone, 0].mean(2)
    across = strong(ramp[None, None, :].expand(1, SIDE, SIDE), count, s=s)[alone, 0].mean(1)
    flipped = across[:, 0] > across[:, -1]
    across = torch.where(flipped[:, None], across.flip(1), across)
    boxes = []
    for profile in (down, across):
        length = (profile[:, 30] - profile[:, 10]) / 20 * SIDE * SIDE
        boxes += [profile[:, 19:21].mean(1) * SIDE - length / 2, length]
    top, height, left, width = torch.stack(boxes)
    for number, seen in enumerate(strong(texture, count, s=s)[alone]):
        box = [float(edge[number]) for edge in (top, left, height, width)]
        assert np.allclose(box, np.round(box), atol=0.02)
        wanted = resized_crop(texture, *(round(edge) for edge in box), [SIDE, SIDE], antialias=False)
        assert torch.allclose(seen, (wanted.flip(2) if flipped[number] else wanted).expand(3, -1, -1), atol=1e-4)
    with seeded_globals(1):
        drawn = [RandomResizedCrop.get_params(texture, (1 - 0.9 * s, 1.0), (3 / 4, 4 / 3)) for _ in range(2000)]
    _, _, heights, widths = torch.tensor(drawn).T
    assert stats.ks_2samp(height * width, heights * widths).pvalue > 1e-3
    assert stats.ks_2samp(width / height, widths / heights).pvalue > 1e-3
    assert flipped.float().mean().item() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("s", [1.0, 0.5])
def test_brightness_and_contrast_are_uniform(s: float) -> None:
    low, high = 0.4, 0.6
    stripe = torch.full((1, 20, 20), low)
    stripe[:, :, 9:11] = high
    seen = strong(stripe, 1500, s=s)[:, 0]
    bright = (seen.amax((1, 2)) - seen.amin((1, 2))) / (high - low)
    # Of a picture x with mean m, brightness b and contrast c make c·b·x + (1 − c)·b·m, whatever their order.
    mean = low + (seen.mean((1, 2)) - seen.amin((1, 2))) / bright
    brightness = seen.mean((1, 2)) / mean
    changed = (brightness - 1).abs() > 1e-4
    whole = (bright > 0.3) & (mean < 0.58) & (mean > 0.41)  # both values in sight
    assert changed[whole].float().mean().item() == pytest.approx(0.8 * s, abs=0.04)
    factors = torch.stack([brightness, bright / brightness])[:, changed & whole].numpy()
    for factor in factors:
        # Interpolation hides the extremes in a few images, so that the fit is loose.
        assert stats.kstest(factor, stats.uniform(1 - 0.4 * s, 0.8 * s).cdf).statistic < 0.05
        assert factor.min() > 1 - 0.4 * s - 0.02
        assert factor.max() < 1 + 0.4 * s + 0.02
    assert abs(np.corrcoef(factors)[0, 1]) < 0.1


@pytest.mark.parametrize("s", [1.0, 0.5])
def test_hue_turns_saturation_scales_and_some_images_lose_their_colour(s: float) -> None:
    red, green, blue = 0.55, 0.5, 0.45
    seen = strong(colour(red, green, blue), 3000, s=s)[:, :, 0, 0].double()
    grey = (seen.amax(1) - seen.amin(1)) < 1e-6
    assert grey.float().mean().item() == pytest.approx(0.2 * s, abs=0.025)
    hues = np.array([colorsys.rgb_to_hsv(*one.tolist())[0] for one in seen[~grey]])
    turns = (hues - colorsys.rgb_to_hsv(red, green, blue)[0] + 0.5) % 1 - 0.5
    turned = np.abs(turns) > 1e-4
    assert turned.mean() == pytest.approx(0.8 * s, abs=0.04)
    assert stats.kstest(turns[turned], stats.uniform(-0.1 * s, 0.2 * s).cdf).pvalue > 1e-3
    # Of one colour, brightness, contrast and saturation each scale the distance between its channels.
    chroma = ((seen.amax(1) - seen.amin(1)) / (red - blue))[~grey][torch.from_numpy(turned)]
    factors = np.random.default_rng(0).uniform(1 - 0.4 * s, 1 + 0.4 * s, (3, 100_000))
    assert stats.ks_2samp(chroma.numpy(), factors.prod(axis=0)).pvalue > 1e-3


def test_strong_augmentation_is_differentiable() -> None:
    images = (0.3 + 0.4 * torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))).double()
    slope = torch.randn(images.shape, generator=torch.Generator().manual_seed(2)).double()
    step = 1e-5 * torch.randn(images.shape, generator=torch.Generator().manual_seed(3)).double()
    points = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((slope * StrongAugment().on_images(points, at(1))).sum(), points)
    ahead, behind = ((slope * StrongAugment().on_images(images + way * step, at(1))).sum() for way in (1, -1))
    assert (gradient * step).sum().item() == pytest.approx((ahead - behind).item() / 2, rel=1e-2)


class Instead:
    """In place of one of kornia's augmentations."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor] = lambda images: images) -> None:
        self.change = change

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self.change(images)

    def set_rng_device_and_dtype(self, device: torch.device, dtype: torch.dtype) -> None:
        pass


class Spy:
    """A loss that keeps what it is asked for, and answers in turn with what each image is to have."""

    def __init__(self, *answers: list[float]) -> None:
        self.answers = [torch.tensor(answer) for answer in answers]
        self.seen: list[torch.Tensor] = []

    def __call__(self, images: torch.Tensor, reduction: Reduction = "mean") -> torch.Tensor:
        self.seen.append(images.clone())
        each = self.answers[len(self.seen) - 1]
        return each.mean() if reduction == "mean" else each


def test_ueraser_trains_on_the_draw_of_each_image_with_the_highest_loss() -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    losses = [[9.0, 0, 1, 0], [8.0, 1, 2, 3], [7.0, 2, 3, 1], [6.0, 3, 4, 2], [5.0, 4, 0, 1]]
    spy = Spy(*losses)
    chosen = UEraser().adversarial(images, spy, at(6))
    assert len(spy.seen) == 5
    for image, worst in enumerate((0, 4, 3, 1)):
        assert [torch.equal(chosen[image], draw[image]) for draw in spy.seen] == [
            number == worst for number in range(5)
        ]


def test_ueraser_lite_is_one_draw_without_a_loss() -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    lite, spy = DEFENSES.build(Spec("ueraser-lite")), Spy([0.0] * 4, [-1.0] * 4)
    assert lite.adversarial(images, Spy(), at(6)) is images
    first = lite.on_images(images, at(6))
    assert (first != images).float().mean() > 0.5
    assert torch.equal(first, UEraser(draws=2).adversarial(images, spy, at(6)))
    assert UEraser(draws=2).on_images(images, at(6)) is images


def test_ueraser_compares_draws_only_until_it_is_told_to() -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    early, late = Spy([0.0] * 4, [1.0] * 4), Spy()
    defense = UEraser(draws=2, until=0.3)
    assert torch.equal(defense.adversarial(images, early, at(6, 0.29)), early.seen[1])
    assert torch.equal(defense.adversarial(images, late, at(6, 0.3)), early.seen[0])


def test_ueraser_shuffles_the_channels_of_half_the_images() -> None:
    # Black, middle and white mostly keep their order in plasma of any kind.
    images, kept = colour(0.0, 0.5, 1.0, 8).expand(32, -1, -1, -1), []
    for seed in range(30):
        means = UEraser(draws=1).on_images(images, at(seed)).mean((2, 3))
        kept.append(((means.argmin(1) == 0) & (means.argmax(1) == 2)).float().mean())
    # A sixth of the shuffles changes nothing: 58 % keep their order. Strong plasma and some operations lose it.
    assert 0.45 < np.median(kept) < 0.65


def test_ueraser_changes_light_smoothly_and_in_each_image_and_channel_differently() -> None:
    alike, smooth = [], []
    for seed in range(12):
        light = UEraser(draws=1, plasma=1).on_images(torch.full((16, 3, 16, 16), 0.5), at(seed)).flatten(0, 1)
        light = light - light.mean((1, 2), keepdim=True)
        power = (light**2).mean().clamp(min=1e-9)
        smooth.append(float((light[:, 1:] * light[:, :-1]).mean() / power))
        alike.append(float((light[1:] * light[:-1]).mean() / power))
    assert 0.3 < np.median(smooth) < 0.99
    assert abs(np.median(alike)) < 0.2


@pytest.mark.parametrize(("grey", "expected"), [(0.5, 0.5), (0.3, 0.75)])
def test_ueraser_lays_each_plasma_over_half_of_the_images(grey: float, expected: float) -> None:
    """Contrast does nothing to a middle grey, so that brightness alone is seen there."""
    shares = []
    for seed in range(40):
        seen = UEraser(draws=1).on_images(torch.full((32, 3, 16, 16), grey), at(seed))[:, :, 6:10, 6:10]
        shares.append(float((seen.std((1, 2, 3)) > 1e-4).float().mean()))
    # Some operations make every image flat.
    assert np.median([share for share in shares if share]) == pytest.approx(expected, abs=0.1)


def test_ueraser_brightens_before_it_changes_the_contrast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, change in (
        ("RandomPlasmaBrightness", lambda images: images + 0.25),
        ("RandomPlasmaContrast", lambda images: 0.5 * images),
        ("auto.TrivialAugment", lambda images: images**2),
    ):
        monkeypatch.setattr(f"kornia.augmentation.{name}", lambda change=change, **_: Instead(change))
    seen = UEraser(draws=1).on_images(torch.full((4, 3, 2, 2), 0.75), at(1))
    assert torch.equal(seen, torch.full((4, 3, 2, 2), 0.25))


def test_ueraser_draws_plasma_of_the_roughness_and_the_intensity_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """On 5 × 5 px each corner of a cell is drawn by itself, and its centre is their mean mixed with one more draw."""
    monkeypatch.setattr("kornia.augmentation.auto.TrivialAugment", Instead)
    count, draw = 6000, np.random.default_rng(0)

    def plasma() -> NDArray[np.float64]:
        corners, mixed = draw.random((count, 4)), draw.uniform(0.3, 0.7, count)
        return np.column_stack([corners, (1 - mixed) * corners.mean(1) + mixed * draw.random(count)])

    def seen(grey: float, other: str) -> NDArray[np.float64]:
        with monkeypatch.context() as patch:
            patch.setattr(f"kornia.augmentation.{other}", lambda **_: Instead())
            images = UEraser(draws=1, plasma=1).on_images(torch.full((count, 3, 5, 5), grey), at(1))
        return images[:, 0, [0, 0, 2, 2, 1], [0, 2, 0, 2, 1]].double().numpy()

    brightness = (0.5 + (2 * plasma() - 1) * draw.uniform(0.5, 1, (count, 1))).clip(0, 1)
    contrast = (0.25 * 4 * plasma() / 2 + 0.5).clip(0, 1)
    for found, expected in (
        (seen(0.5, "RandomPlasmaContrast"), brightness),
        (seen(0.625, "RandomPlasmaBrightness"), contrast),
    ):
        assert stats.ks_2samp(found[:, 0], expected[:, 0]).pvalue > 1e-3
        off_centre = [values[:, 4] - values[:, :4].mean(1) for values in (found, expected)]
        assert stats.ks_2samp(*off_centre).pvalue > 1e-3


def test_ueraser_draws_one_operation_of_trivial_augment_for_each_batch() -> None:
    white, lite = torch.ones(8, 3, 16, 16), UEraser(draws=1, plasma=0)
    moved = {"x": 0, "y": 0}
    for seed in range(60):
        seen = lite.on_images(white, at(seed))
        if seen.amax((1, 2, 3)).min() == 0:
            continue  # posterised to no bits
        dark = (seen == 0).all(1)
        for axis, whole in (("x", dark.all(1)), ("y", dark.all(2))):
            # Translated: whole columns or rows at one edge are black, of another number in each image.
            moved[axis] += len(whole.sum(1).unique()) > 2
    assert 2 <= moved["x"] <= 12
    assert 2 <= moved["y"] <= 12

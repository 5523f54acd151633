"""Grey, bit depth, blur, COIN and sharpening with a low-pass against Pillow, SciPy and brute force."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import fft, ndimage, stats

from defenses import Defense
from defenses.bit_depth import BitDepth
from defenses.blur import Blur
from defenses.coin import Coin
from defenses.grey import Grey
from defenses.sharpen_lowpass import SharpenLowpass
from tests.defenses.hooks import at, pictures


def test_grey_is_pillows_luma_in_all_channels() -> None:
    pixels = torch.randint(256, (5, 3, 12, 20), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    seen = Grey().on_images(pixels.float() / 255, at(0)) * 255
    for picture, grey in zip(pixels, seen, strict=True):
        luma = np.asarray(Image.fromarray(picture.permute(1, 2, 0).numpy()).convert("L"))
        # Pillow rounds.
        assert (grey - torch.from_numpy(luma.copy())).abs().max() <= 0.51
    assert torch.equal(Grey().on_images(torch.ones(1, 3, 2, 2), at(0)), torch.ones(1, 3, 2, 2))


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_every_value_moves_to_the_nearest_level(bits: int) -> None:
    levels = torch.linspace(0, 1, 2**bits, dtype=torch.float64)
    images = pictures(4).double()
    seen = BitDepth(bits).on_images(images, at(0))
    nearest = (images[..., None] - levels).abs().argmin(dim=-1)
    assert torch.allclose(seen, levels[nearest], rtol=0, atol=1e-12)
    assert len(seen.unique()) == 2**bits
    for edge in (0.0, 1.0):
        assert (BitDepth(bits).on_images(torch.full((1, 3, 2, 2), edge), at(0)) == edge).all()


def test_the_gradient_through_few_levels_is_the_identity() -> None:
    images = pictures(2).requires_grad_()
    slope = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((slope * BitDepth().on_images(images, at(0))).sum(), images)
    assert torch.equal(gradient, slope)


@pytest.mark.parametrize(("sigma", "height", "width"), [(0.5, 9, 16), (1.0, 32, 32), (2.5, 20, 12), (16.0, 8, 8)])
def test_blur_is_scipys_gaussian_filter(sigma: float, height: int, width: int) -> None:
    images = pictures(3, height, width).double()
    radius = int(np.ceil(3 * sigma))
    wanted = ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="nearest", radius=radius)
    assert np.allclose(Blur(sigma).on_images(images, at(0)).numpy(), wanted, rtol=0, atol=1e-6)


def test_the_default_blur_passes_the_waves_that_its_docstring_says() -> None:
    columns = torch.arange(192)
    for length, passed in ((2, 0.01), (4, 0.29), (8, 0.73), (16, 0.93)):
        wave = torch.cos(2 * torch.pi * columns / length)
        seen = Blur().on_images((0.5 + 0.5 * wave).expand(1, 3, 8, 192), at(0))
        # Away from the edges, which end the wave.
        amplitude = ((seen - 0.5) * wave)[..., 16:176].sum() / (0.5 * wave[16:176] ** 2).sum() / 24
        assert amplitude.item() == pytest.approx(passed, abs=0.01)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (24, 40)])
def test_coin_reads_every_pixel_from_a_place_drawn_uniformly_nearby(height: int, width: int) -> None:
    # Of a ramp that rises along both axes, in different channels, the values say which place each pixel was read from.
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ramps = torch.stack([rows / height, columns / width, torch.zeros(height, width)])
    seen = Coin().on_images(ramps.double().expand(20, -1, -1, -1), at(1))
    down, across = ((seen[:, :2] - ramps[:2]) * 32).unbind(1)  # in pixels of an image of 32
    margin = 6  # where the ramp goes on at the opposite edge
    inner = (slice(None), slice(margin, -margin), slice(margin, -margin))
    for shift in (down[inner].flatten(), across[inner].flatten()):
        assert stats.kstest(shift.numpy(), stats.uniform(-2, 4).cdf).pvalue > 1e-3
        assert (shift.min(), shift.max()) == (pytest.approx(-2, abs=0.01), pytest.approx(2, abs=0.01))
    assert abs(np.corrcoef(down[inner].flatten(), across[inner].flatten())[0, 1]) < 0.03
    # Neighbouring pixels and images of one batch have shifts of their own.
    assert abs((down[:, 6:-7, 6:-6] * down[:, 7:-6, 6:-6]).mean()) < 0.05
    assert abs((down[1:][inner] * down[:-1][inner]).mean()) < 0.05


def test_coin_interpolates_as_scipy_does_and_goes_on_at_the_opposite_edge() -> None:
    height, width, seed = 20, 32, 4
    images = pictures(3, height, width).double()
    seen = Coin(reach=3).on_images(images, at(seed))
    shifts = torch.rand((3, height, width, 2), generator=torch.Generator().manual_seed(seed)).double() * 2 - 1
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    for image, moved, shift in zip(images.numpy(), seen.numpy(), shifts.numpy(), strict=True):
        places = [rows + shift[..., 1] * 3 * height / 32, columns + shift[..., 0] * 3 * width / 32]
        for before, after in zip(image, moved, strict=True):
            wanted = ndimage.map_coordinates(before, places, order=1, mode="grid-wrap")
            assert np.allclose(after, wanted, rtol=0, atol=1e-5)


def kernels(defense: SharpenLowpass, count: int, seed: int) -> torch.Tensor:
    """(count, 3, 3) weights that a batch is filtered with: the answer to a small bump on a grey ground."""
    ground = torch.full((count, 3, 9, 9), 0.5, dtype=torch.float64)
    bump = ground.clone()
    bump[:, :, 4, 4] += 0.01
    flat, answer = (defense.on_images(images, at(seed)) for images in (ground, bump))
    difference = (answer - flat) / 0.01
    assert torch.allclose(difference[:, :1].expand(-1, 3, -1, -1), difference)
    assert difference[:, :, [0, 1, 2, 6, 7, 8]].abs().max() < 1e-6
    # A bump spreads by the mirrored kernel.
    return difference[:, 0, 3:6, 3:6].flip(1, 2)


def test_the_kernel_sharpens_with_the_weights_of_the_paper() -> None:
    weights = kernels(SharpenLowpass(centre=1.5, keep=1.0), 3000, 5)
    centre = weights[:, 1, 1].numpy()
    assert stats.kstest(centre, stats.norm(1.5, 0.1).cdf).pvalue > 1e-3
    around = torch.stack([weights[:, 0, 1], weights[:, 1, 0], weights[:, 1, 2], weights[:, 2, 1]]).numpy()
    deviations = around + (centre - 1) / 4
    for one in deviations:
        assert stats.kstest(one, stats.norm(0, 0.1).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef([centre, *deviations]) - np.eye(5)).max() < 0.06
    assert weights[:, ::2, ::2].abs().max() < 1e-6


@pytest.mark.parametrize(("keep", "height", "width", "kept"), [(0.3, 32, 32, (9, 9)), (0.29, 100, 7, (29, 2))])
def test_filtering_equals_scipys_correlation_and_cosine_transform(
    keep: float, height: int, width: int, kept: tuple[int, int]
) -> None:
    images = pictures(4, height, width).double()
    seen = SharpenLowpass(centre=1.5, keep=keep).on_images(images, at(6))
    for image, filtered, kernel in zip(
        images, seen, kernels(SharpenLowpass(centre=1.5, keep=1.0), 4, 6).numpy(), strict=True
    ):
        for before, after in zip(image.numpy(), filtered.numpy(), strict=True):
            spectrum = fft.dctn(ndimage.correlate(before, kernel, mode="nearest").clip(0, 1), norm="ortho")
            spectrum[kept[0] :], spectrum[:, kept[1] :] = 0, 0
            assert np.allclose(after, fft.idctn(spectrum, norm="ortho").clip(0, 1), rtol=0, atol=1e-4)


def test_the_lowest_frequency_is_kept_however_small_the_share() -> None:
    images = pictures(2, 8, 8)
    seen = SharpenLowpass(centre=1, spread=0, keep=0.01).on_images(images, at(0))
    assert torch.allclose(seen, images.mean((2, 3), keepdim=True).expand_as(images), atol=1e-5)


@pytest.mark.parametrize("defense", [Grey(), Blur(), Coin(), SharpenLowpass(centre=1.5)])
def test_an_attack_can_be_crafted_through_it(defense: Defense) -> None:
    images = (0.3 + 0.4 * pictures(2, 8, 8)).double().requires_grad_()
    slope = torch.randn(images.shape, generator=torch.Generator().manual_seed(2)).double()
    (gradient,) = torch.autograd.grad((slope * defense.on_images(images, at(1))).sum(), images)
    step = 1e-4 * torch.randn(images.shape, generator=torch.Generator().manual_seed(3)).double()
    ahead, behind = ((slope * defense.on_images(images.detach() + way * step, at(1))).sum() for way in (1, -1))
    assert (gradient * step).sum().item() == pytest.approx((ahead - behind).item() / 2, rel=1e-3)

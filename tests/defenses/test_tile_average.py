"""What repeats is gone, and what does not stays."""

import numpy as np
import pytest
import torch

from defenses import HookContext
from defenses.tile_average import TileAverage

AT = HookContext(0, 0.0)


@pytest.mark.parametrize(("side", "tile"), [(32, 8), (64, 4)])
def test_frequencies_of_the_period_are_gone_and_all_others_stay(side: int, tile: int) -> None:
    generator = torch.Generator().manual_seed(1)
    images = 0.4 + 0.2 * torch.rand(4, 3, side, side, generator=generator)
    seen = TileAverage(tile).on_images(images, AT)
    before, after = (np.fft.fft2(some.numpy()) for some in (images, seen))
    place = np.arange(side) % (side // tile) == 0
    harmonic = place[:, None] & place
    harmonic[0, 0] = False  # the mean colour
    assert np.abs(before[:, :, harmonic]).min() > 1e-3
    assert np.abs(after[:, :, harmonic]).max() < 1e-3
    np.testing.assert_allclose(after[:, :, ~harmonic], before[:, :, ~harmonic], atol=1e-3)


def test_a_repeated_tile_leaves_its_mean_colour_alone() -> None:
    generator = torch.Generator().manual_seed(2)
    smooth = torch.linspace(0.3, 0.7, 32).expand(1, 3, 32, 32)
    noise = (torch.rand(1, 3, 8, 8, generator=generator) - 0.5) / 16
    plain, noisy = (TileAverage(8).on_images(some, AT) for some in (smooth, smooth + noise.repeat(1, 1, 4, 4)))
    assert torch.allclose(plain + noise.mean(dim=(2, 3), keepdim=True), noisy, atol=1e-6)


def test_tiles_may_be_cut_at_the_edge() -> None:
    generator = torch.Generator().manual_seed(3)
    noise = (torch.rand(1, 3, 8, 8, generator=generator) - 0.5) / 16
    images = (0.5 + noise.repeat(1, 1, 3, 3))[:, :, :20, :17]
    seen = TileAverage(8).on_images(images, AT)
    assert seen.shape == images.shape
    assert float(seen.std(dim=(2, 3)).max()) < 1e-6


def test_a_tile_larger_than_the_image_leaves_its_mean_colour() -> None:
    images = torch.rand(2, 3, 8, 10, generator=torch.Generator().manual_seed(4))
    seen = TileAverage(32).on_images(images, AT)
    torch.testing.assert_close(seen, images.mean(dim=(2, 3), keepdim=True).expand_as(images))

"""PSNR and SSIM of images with noise, against the formulas written out in numpy."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from benchmark.data.difference import Difference, mean_ssim


def noisy(count: int, eps: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(eps)
    clean = rng.integers(30, 220, (count, 3, 24, 24), dtype=np.uint8)
    return clean, (clean + rng.integers(-eps, eps + 1, clean.shape)).astype(np.uint8)


def plain_ssim(before: np.ndarray, after: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, under a Gaussian window of 11 pixels with σ = 1.5."""

    def mean(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, 1.5, radius=5, mode="mirror")

    x, y = before / 255, after / 255
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return float(np.mean((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))))


@pytest.mark.parametrize("most", [7, 1000])
def test_ssim_is_the_formulas_mean_over_channels_and_images(most: int) -> None:
    clean, protected = noisy(40, 8)
    chosen = np.linspace(0, 39, min(most, 40)).round().astype(int)
    channels = [(clean[i, c], protected[i, c]) for i in chosen for c in range(3)]
    assert mean_ssim(clean, protected, most) == pytest.approx(
        np.mean([plain_ssim(*pair) for pair in channels]), abs=1e-4
    )
    assert mean_ssim(clean, clean, most) == pytest.approx(1)


def test_psnr_of_chunks_is_that_of_all() -> None:
    clean, protected = noisy(40, 4)
    difference = Difference()
    for start in range(0, 40, 16):
        difference.add(clean[start : start + 16], protected[start : start + 16])
    squared = np.mean((clean.astype(float) - protected) ** 2)
    assert difference.psnr == pytest.approx(10 * np.log10(255**2 / squared))
    assert difference.largest == 4

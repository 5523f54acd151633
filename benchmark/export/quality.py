"""Visibility of noise: PSNR and SSIM of 8-bit images."""

from typing import Any

import numpy as np

from benchmark.core.progress import Progress
from benchmark.data.dataset import Images, LazyImages
from benchmark.data.difference import SSIM_IMAGES, SSIM_WINDOW, Difference, summed_ssim


def compare(clean: Images | LazyImages, protected: Images | LazyImages, progress: Progress) -> dict[str, Any]:
    """Measure the differences between images and their protected versions.

    Args:
        clean: (N, 3, H, W) uint8.
        protected: the same images with noise.
        progress: advanced for every image.

    Returns:
        ``largest`` and ``mean`` absolute difference of a pixel value, in 1/255; ``psnr`` in dB, from the mean squared
        error over all images (``None`` without noise); ``ssim``, the mean over images; ``ssim_window`` in pixels.
    """
    difference = Difference()
    similarity = 0.0
    for start in range(0, len(clean), SSIM_IMAGES):
        rows = slice(start, start + SSIM_IMAGES)
        before, after = np.asarray(clean[rows]), np.asarray(protected[rows])
        difference.add(before, after)
        similarity += summed_ssim(before, after)
        for _ in before:
            progress.advance()
    return {
        "largest": difference.largest,
        "mean": difference.mean,
        "psnr": difference.psnr,
        "ssim": similarity / len(clean),
        "ssim_window": SSIM_WINDOW,
    }

"""Visibility of noise: PSNR and SSIM of 8-bit images."""

import math
from typing import Any

import numpy as np
import torch
from kornia.metrics import ssim

from benchmark.core.progress import Progress
from benchmark.data.dataset import Images, LazyImages

SSIM_WINDOW = 11  # pixels, Gaussian, σ = 1.5: as in the SSIM paper
_CHUNK = 16  # images compared at a time; SSIM takes about forty bytes per pixel value


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
    largest = total = squared = 0
    similarity = 0.0
    for start in range(0, len(clean), _CHUNK):
        rows = slice(start, start + _CHUNK)
        before, after = np.asarray(clean[rows]), np.asarray(protected[rows])
        difference = np.abs(after.astype(np.int32) - before)
        largest = max(largest, int(difference.max()))
        total += int(difference.sum(dtype=np.int64))
        squared += int((difference**2).sum(dtype=np.int64))
        pair = (torch.from_numpy(images.astype(np.float32) / 255) for images in (before, after))
        similarity += float(ssim(*pair, SSIM_WINDOW).mean(dim=(1, 2, 3)).double().sum())
        for _ in before:
            progress.advance()
    values = math.prod(clean.shape)
    return {
        "largest": largest,
        "mean": total / values,
        "psnr": None if squared == 0 else 10 * math.log10(255**2 * values / squared),
        "ssim": similarity / len(clean),
        "ssim_window": SSIM_WINDOW,
    }

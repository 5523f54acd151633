"""How far 8-bit images are from their originals: largest and mean difference, PSNR, SSIM."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from kornia.metrics import ssim

from benchmark.core.progress import Progress
from benchmark.data.dataset import Images, LazyImages, spread_rows

_SSIM_WINDOW = 11  # pixels, Gaussian, σ = 1.5: as in the SSIM paper
_CHUNK = 16  # images compared at a time; SSIM takes about forty bytes per pixel value


@dataclass
class Difference:
    """Sums over images that come a few at a time.

    Attributes:
        largest: difference of a pixel value, in 1/255.
    """

    largest: int = 0
    _values: int = 0
    _absolute: int = 0
    _squared: int = 0

    def add(self, original: Images, changed: Images) -> None:
        """Compare images with their changed versions, (B, 3, H, W) uint8 each."""
        difference = np.abs(changed.astype(np.int32) - original)
        self.largest = max(self.largest, int(difference.max(initial=0)))
        self._values += difference.size
        self._absolute += int(difference.sum(dtype=np.int64))
        self._squared += int((difference**2).sum(dtype=np.int64))

    @property
    def mean(self) -> float:
        """Mean absolute difference of a pixel value, in 1/255."""
        return self._absolute / self._values

    @property
    def psnr(self) -> float | None:
        """Peak signal-to-noise ratio in dB, of the mean squared error over all images; ``None`` for equal images."""
        return float(10 * np.log10(255**2 / (self._squared / self._values))) if self._squared else None


def summed_ssim(original: Images, changed: Images) -> float:
    """Structural similarity of images with their changed versions, (B, 3, H, W) uint8 each, summed over images.

    Of each image it is the mean over channels and places (Wang et al. 2004, "Image quality assessment: from error
    visibility to structural similarity"); 1 for equal images.
    """
    before, after = (torch.from_numpy(images.astype(np.float32) / 255) for images in (original, changed))
    return float(ssim(before, after, _SSIM_WINDOW).mean(dim=(1, 2, 3)).double().sum())


def mean_ssim(original: Images | LazyImages, changed: Images | LazyImages, most: int) -> float:
    """The mean structural similarity of at most ``most`` images with their changed versions, spread evenly over all."""
    rows = spread_rows(len(original), most)
    parts = np.array_split(rows, max(1, len(rows) // _CHUNK))
    return sum(summed_ssim(original[part], changed[part]) for part in parts) / len(rows)


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
    for start in range(0, len(clean), _CHUNK):
        rows = slice(start, start + _CHUNK)
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
        "ssim_window": _SSIM_WINDOW,
    }

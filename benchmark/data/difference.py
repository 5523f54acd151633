"""How far 8-bit images are from their originals: largest and mean difference, PSNR, SSIM."""

from dataclasses import dataclass

import numpy as np
import torch
from kornia.metrics import ssim

from benchmark.data.dataset import Images, LazyImages, spread_rows

SSIM_WINDOW = 11  # pixels, Gaussian, σ = 1.5: as in the SSIM paper
SSIM_IMAGES = 16  # compared at a time; SSIM takes about forty bytes per pixel value


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
    return float(ssim(before, after, SSIM_WINDOW).mean(dim=(1, 2, 3)).double().sum())


def mean_ssim(original: Images | LazyImages, changed: Images | LazyImages, most: int) -> float:
    """The mean structural similarity of at most ``most`` images with their changed versions, spread evenly over all."""
    rows = spread_rows(len(original), most)
    parts = np.array_split(rows, max(1, len(rows) // SSIM_IMAGES))
    return sum(summed_ssim(original[part], changed[part]) for part in parts) / len(rows)

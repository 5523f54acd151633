"""How far 8-bit images are from their originals: largest and mean difference, PSNR."""

from dataclasses import dataclass

import numpy as np

from benchmark.data.dataset import Images


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

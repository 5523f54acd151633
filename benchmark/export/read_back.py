"""What is left of the noise in protected photos, read again as a scraper reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.core.errors import UsageError
from benchmark.core.progress import tracked
from benchmark.data.dataset import spread_rows
from benchmark.data.difference import Difference
from benchmark.data.image_location import ImageLocation
from benchmark.data.images import BadImage, on_white, square
from benchmark.export.photo import Kind, Photo

_MOST = 20  # photos
_ROWS = 256  # of two photos compared at a time


def read_back(
    originals: Sequence[ImageLocation], protected: Sequence[Path], noise: NDArray[np.int8], kind: Kind
) -> dict[str, Any]:
    """Compare a few protected photos, evenly spread over all, with their originals.

    Args:
        originals: N files.
        protected: the N files made from them.
        noise: (N, 3, R, R) that was crafted for them, in steps of 1/255.
        kind: of the protected files.

    Returns:
        See :attr:`benchmark.export.protected.Protection.read_back`. The share is the projection on the crafted noise,
        so that what JPEG adds does not count as noise that is left.

    Raises:
        UsageError: a photo cannot be read.
    """
    rows, full, resolution = spread_rows(len(originals), _MOST), Difference(), noise.shape[-1]
    left = np.zeros(3)  # sums of seen · crafted, crafted², seen²
    for row in tracked(rows.tolist(), "reading back", len(rows)):
        before = Photo.read(originals[row], kind)
        try:
            after = Photo.read(protected[row], kind)
        except BadImage as error:
            raise UsageError(f"{error}; remove it and run the command again") from error
        add_difference(full, before.pixels, after.pixels)
        seen = _square(after, resolution) - _square(before, resolution)
        crafted = noise[row].astype(np.float64)
        left += [(seen * crafted).sum(), (crafted**2).sum(), (seen**2).sum()]
    product, crafted_power, seen_power = left
    return {
        "photos": len(rows),
        "share": float(product / crafted_power) if crafted_power else 0.0,
        "correlation": float(product / np.sqrt(crafted_power * seen_power)) if crafted_power * seen_power else 0.0,
        "psnr": full.psnr,
        "largest": full.largest,
    }


def add_difference(full: Difference, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> None:
    """Compare two photos of one size, a few rows at a time: a photo in wider integers would fill the memory."""
    for start in range(0, len(before), _ROWS):
        full.add(before[start : start + _ROWS], after[start : start + _ROWS])


def _square(photo: Photo, resolution: int) -> NDArray[np.float64]:
    """As a model sees it: transparent parts on white."""
    image = photo.picture()
    return square(on_white(image) if photo.alpha is not None else image.convert("RGB"), resolution).astype(np.float64)

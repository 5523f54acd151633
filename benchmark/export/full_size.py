"""Noise enlarged onto original images of any size.

A victim sees the central square of an image, resized. The noise is resized in the other direction onto that square and
stays within its bound; pixels outside the square stay unchanged. Resizing back does not restore the noise: read at the
victim's resolution, such images carry weaker noise than those that the benchmark's victims train on.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.core.errors import UsageError
from benchmark.data import CaptionDataset
from benchmark.data.dataset import Images, add_noise
from benchmark.data.image_location import ImageLocation
from benchmark.data.images import read_upright, square_within


def original(path: ImageLocation) -> Images:
    """Read an image at its original size, upright: (3, height, width) uint8.

    Raises:
        UsageError: the file is missing or cannot be read; the message names it.
    """
    return np.asarray(read_upright(path)).transpose(2, 0, 1)


def origins(dataset: CaptionDataset) -> list[ImageLocation]:
    """The image files of a data set.

    Raises:
        UsageError: its images do not come from files.
    """
    if dataset.origins is None:
        raise UsageError(f"{dataset.name} has no image files, so there is no original resolution to keep")
    return dataset.origins


def enlarge(image: Images, noise: NDArray[np.int8], eps: int) -> Images:
    """Add noise that was made for the central square to an image of any size.

    Args:
        image: (3, height, width) uint8.
        noise: (3, R, R) int8 in steps of 1/255, for the image as a victim sees it at R × R pixels.
        eps: bound on the noise, in 1/255.

    Returns:
        (3, height, width) uint8. Pixel values change by at most ``eps``, and not at all outside the square.
    """
    _, height, width = image.shape
    size, box = square_within((width, height), noise.shape[-1])
    across, down = width / size[0], height / size[1]
    left, top = round(box[0] * across), round(box[1] * down)
    # For an image one pixel high, both ends may round to the same position.
    right, bottom = max(left + 1, round(box[2] * across)), max(top + 1, round(box[3] * down))
    planes = [Image.fromarray(plane) for plane in noise.astype(np.float32)]
    larger = [plane.resize((right - left, bottom - top), Image.Resampling.BILINEAR) for plane in planes]
    added = np.rint(np.stack([np.asarray(plane) for plane in larger])).clip(-eps, eps).astype(np.int16)
    protected = image.copy()
    region = protected[:, top:bottom, left:right]
    region[:] = add_noise(region, added)
    return protected

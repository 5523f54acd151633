"""How close test images come to training images: whether test data have leaked into training."""

import numpy as np
import torch

from benchmark.data.dataset import CaptionDataset, Images, spread_rows

QUANTILE = 0.02  # of the test images: a leak of a few in a hundred shows, and no single look-alike decides
_SIDE = 32  # pixels, to which larger images are averaged
_MOST_TEST = 1000
_CHUNK = 512  # training images at a time


def nearest_distance(train: CaptionDataset, test: CaptionDataset) -> float:
    """How far the closest test images are from the training data.

    The distance between two images is the root mean square difference of their pixel values. For each test image, the
    distance to its nearest training image is taken. The result is the 2 % quantile of these distances: it is near 0 if
    more than 2 % of the test images are in the training data.

    Args:
        train: clean, images (N, 3, H, W) uint8.
        test: images of the same size; of more than 1,000, as many spread evenly over all.

    Returns:
        The distance in 1/255.
    """
    queries = _small(test.images[spread_rows(len(test), _MOST_TEST)])
    nearest = torch.full((len(queries),), torch.inf)
    for start in range(0, len(train), _CHUNK):
        others = _small(train.images[start : start + _CHUNK])
        nearest = torch.minimum(nearest, torch.cdist(queries, others).amin(dim=1))
    distances = nearest / queries.shape[1] ** 0.5
    return float(torch.quantile(distances, QUANTILE))


def _small(images: Images) -> torch.Tensor:
    """(B, 3, H, W) uint8 as (B, D) float32 around zero, averaged to at most 32 × 32 pixels."""
    pixels = torch.from_numpy(images.astype(np.float32)) - 128
    if pixels.shape[-1] > _SIDE:
        pixels = torch.nn.functional.adaptive_avg_pool2d(pixels, _SIDE)
    return pixels.flatten(1)

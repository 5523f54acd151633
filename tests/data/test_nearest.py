"""How far test images are from training images, against a search over all pairs."""

import numpy as np
import pytest

from benchmark.data.dataset import CaptionDataset
from benchmark.data.nearest import QUANTILE, nearest_distance


def images(count: int, side: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def split(name: str, pixels: np.ndarray) -> CaptionDataset:
    return CaptionDataset(name="noise", split=name, images=pixels, captions=[["a"]] * len(pixels))


def test_equals_a_search_over_all_pairs() -> None:
    train, test = images(600, 8, 1), images(40, 8, 2)
    pairs = np.sqrt(((test[:, None].astype(float) - train[None]) ** 2).mean(axis=(2, 3, 4)))
    expected = np.quantile(pairs.min(axis=1), QUANTILE)
    assert nearest_distance(split("train", train), split("test", test), 0) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("leaked", "least", "most"), [(0, 20, 255), (2, 0, 0.1)])
def test_two_leaked_images_of_forty_show(leaked: int, least: float, most: float) -> None:
    train, test = images(600, 64, 1), images(40, 64, 2)
    train[590 : 590 + leaked] = test[:leaked]
    assert least <= nearest_distance(split("train", train), split("test", test), 0) <= most

"""How far test images are from training images, against a search over all pairs."""

from pathlib import Path

import numpy as np
import pytest

import benchmark.data.scenes
from benchmark.data.dataset import CaptionDataset
from benchmark.data.nearest import QUANTILE, nearest_distance
from benchmark.data.scene_layout import Layout, draw_layout
from benchmark.data.scenes import Scenes
from benchmark.grid.records import load_records
from benchmark.reference_check import REFERENCE
from benchmark.reference_check.intervals import prediction
from benchmark.reference_check.quantities import series


def images(count: int, side: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def split(name: str, pixels: np.ndarray) -> CaptionDataset:
    return CaptionDataset(name="noise", split=name, images=pixels, captions=[["a"]] * len(pixels))


def test_equals_a_search_over_all_pairs() -> None:
    train, test = images(600, 8, 1), images(40, 8, 2)
    pairs = np.sqrt(((test[:, None].astype(float) - train[None]) ** 2).mean(axis=(2, 3, 4)))
    expected = np.quantile(pairs.min(axis=1), QUANTILE)
    assert nearest_distance(split("train", train), split("test", test)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("leaked", "least", "most"), [(0, 20, 255), (2, 0, 0.1)])
def test_two_leaked_images_of_forty_show(leaked: int, least: float, most: float) -> None:
    train, test = images(600, 64, 1), images(40, 64, 2)
    train[590 : 590 + leaked] = test[:leaked]
    assert least <= nearest_distance(split("train", train), split("test", test)) <= most


def test_scenes_that_leak_with_another_texture_are_closer_than_check_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One test scene in twenty is painted again in training, at the reference's resolution."""

    def leaking(seed: int, split: str, index: int, *rest: int) -> Layout:
        return draw_layout(seed, *(("test", index) if split == "train" and index < 10 else (split, index)), *rest)

    def distance(folder: str) -> float:
        splits = Scenes(train=400, val=1, test=200, objects=150, seed=7).load(32, tmp_path / folder)
        return nearest_distance(splits.train, splits.test)

    reference = load_records(REFERENCE / "records")
    ((low, _),) = (
        passes for item, passes in zip(series(reference), prediction(reference), strict=True) if item.cell == "Data"
    )
    assert distance("apart") > min(record.data["nearest"] for record in reference)
    monkeypatch.setattr(benchmark.data.scenes, "draw_layout", leaking)
    assert distance("leaking") < 0.9 * low


@pytest.mark.parametrize("leaked", [0, 2900], ids=["first", "last"])
def test_of_3000_test_images_a_thousand_from_everywhere_are_looked_at(leaked: int) -> None:
    """A hundred leaked in a row are three in a hundred, wherever they stand."""
    train, test = images(100, 8, 1), images(3000, 8, 2)
    assert nearest_distance(split("train", train), split("test", test)) > 20
    test[leaked : leaked + 100] = train
    assert nearest_distance(split("train", train), split("test", test)) == pytest.approx(0, abs=0.1)

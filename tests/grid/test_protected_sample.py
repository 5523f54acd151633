"""What a scraper measures a victim on is a part of what it has: the protected training data, and nothing clean."""

from pathlib import Path

import numpy as np
import pytest

import benchmark.grid.runner
from benchmark.data import CaptionDataset
from benchmark.grid.protected_sample import MOST_IMAGES, protected_sample
from benchmark.grid.records import load_records
from tests.grid.grids import data_seen, run
from victims.recipe import Recipe

RECIPE = Recipe(epochs=3)


def dataset(images: int, photo: list[int] | None = None) -> CaptionDataset:
    """Images of one value each, with that value as their two captions."""
    values = np.arange(images) % 251
    pixels = np.broadcast_to(values[:, None, None, None], (images, 3, 2, 2)).astype(np.uint8)
    captions = [[f"{row} a", f"{row} b"] for row in range(images)]
    return CaptionDataset("own", "train", pixels, captions, None if photo is None else np.array(photo))


def rows(sample: CaptionDataset | None) -> list[int]:
    """The rows of a sample, once pixels and captions have been seen to be of the same ones."""
    assert sample is not None
    found = [int(captions[0].split()[0]) for captions in sample.captions]
    assert [row % 251 for row in found] == [int(image.max()) for image in sample.images[:]]
    assert all(captions == [f"{row} a", f"{row} b"] for row, captions in zip(found, sample.captions, strict=True))
    return found


def test_it_has_as_many_images_as_val_and_at_most_so_many() -> None:
    data = dataset(1000)
    for val_images, size in ((8, 8), (700, MOST_IMAGES)):
        found = rows(protected_sample(data, RECIPE, val_images, seed=1))
        assert len(set(found)) == len(found) == size
    assert rows(protected_sample(dataset(5), RECIPE, 8, seed=1)) == [0, 1, 2, 3, 4]


def test_rows_come_from_everywhere_and_from_the_seed_alone() -> None:
    data = dataset(1000)
    found = rows(protected_sample(data, RECIPE, 100, seed=1))
    assert min(found) < 100
    assert max(found) > 900
    assert found == rows(protected_sample(dataset(1000), RECIPE, 100, seed=1))
    assert found != rows(protected_sample(data, RECIPE, 100, seed=2))


def test_of_a_photos_copies_one_is_taken() -> None:
    photo = [0, 0, 0, 1, 1, 2]
    sample = protected_sample(dataset(6, photo), RECIPE, 3, seed=1)
    assert sorted(photo[row] for row in rows(sample)) == [0, 1, 2]


def test_where_there_is_no_choice_of_epochs_there_is_no_sample() -> None:
    assert protected_sample(dataset(9), Recipe(epochs=3, evaluate_every=3), 4, seed=1) is None
    assert protected_sample(dataset(9), Recipe(epochs=3, evaluate_every=2), 4, seed=1) is not None


def test_victims_are_measured_on_protected_rows_and_come_out_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, everything = data_seen(monkeypatch)
    assert run(tmp_path / "with", defense="prefix-drop") == 0
    measured = [data for data in everything if data.split == "train"]
    assert len(measured) == 9  # three victims of three epochs
    for data, sample in zip(trained, (measured[0], measured[3], measured[6]), strict=True):
        place = {captions[0]: row for row, captions in enumerate(data.captions)}
        found = [place[captions[0]] for captions in sample.captions]
        assert len(set(found)) == 8
        # As published: noise, trigger and all captions, whatever the defense does with them in training.
        assert np.array_equal(sample.images[:], np.asarray(data.images[:])[found])
        assert sample.captions == [data.captions[row] for row in found]
    assert measured[0].captions != measured[3].captions == measured[6].captions
    assert all(
        own[0].endswith(f" {clean[0]}") for own, clean in zip(measured[3].captions, measured[0].captions, strict=True)
    )

    monkeypatch.setattr(benchmark.grid.runner, "protected_sample", lambda *_: None)
    assert run(tmp_path / "without", "--poisons", str(tmp_path / "with" / "poisons"), defense="prefix-drop") == 0
    pairs = zip(load_records(tmp_path / "with"), load_records(tmp_path / "without"), strict=True)
    for record, other in pairs:
        assert record.loss == other.loss
        assert [(one.val, one.test) for one in record.epochs] == [(one.val, one.test) for one in other.epochs]
        assert all(one.protected is not None for one in record.epochs)
        assert all(one.protected is None for one in other.epochs)

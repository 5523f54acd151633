"""The residual purifier on noise that is known: what it takes out, what it leaves, and whom it learns from."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.data import CaptionDataset
from defenses import HookContext
from defenses.residual_purifier import ResidualPurifier, _noise
from tests.small import make_dataset, noting

AT = HookContext(seed=5, progress=0.0, epoch=1, training=9)
PURIFIER = ResidualPurifier(share=0.5, steps=150, width=8)


def smooth(side: int = 24) -> CaptionDataset:
    """Images of two slow waves, each with its own colours: nothing in them looks like a checkerboard."""
    rng = np.random.default_rng(3)
    dataset = make_dataset()
    steps = np.arange(side) / side
    waves = [np.sin(2 * np.pi * (f * steps[:, None] + g * steps + p)) for f, g, p in rng.random((len(dataset), 3))]
    colours = rng.uniform(20, 60, (len(dataset), 3, 1, 1))
    return replace(dataset, images=(128 + colours * np.array(waves)[:, None]).round().astype(np.uint8))


def published(clean: CaptionDataset, eps: int) -> CaptionDataset:
    """Every image with a checkerboard of +ε and −ε."""
    side = clean.images.shape[-1]
    board = np.where(np.add.outer(np.arange(side), np.arange(side)) % 2, eps, -eps)
    return replace(clean, images=(clean.images[:].astype(int) + board).astype(np.uint8))


def error(train: CaptionDataset, clean: CaptionDataset) -> np.ndarray:
    """(N,) mean absolute error of each image, in 1/255."""
    return np.abs(train.images[:].astype(int) - clean.images[:]).mean(axis=(1, 2, 3))


def test_a_side_that_is_odd_is_continued_by_its_edge() -> None:
    images = torch.randint(256, (2, 3, 7, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    network = torch.nn.Conv2d(3, 3, 3, padding=1)  # at the last column and row it sees what is put behind them
    longer = torch.from_numpy(np.pad(images.numpy(), ((0, 0), (0, 0), (0, 1), (0, 1)), mode="edge"))
    assert torch.equal(_noise(network, images), _noise(network, longer)[:, :, :7, :5])


def test_what_lies_beyond_black_and_white_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = smooth()
    clean = replace(clean, images=np.random.default_rng(1).integers(256, size=clean.images.shape).astype(np.uint8))
    noise = np.random.default_rng(2).normal(0, 20, clean.images.shape)
    monkeypatch.setattr(ResidualPurifier, "_trained", lambda *_: None)
    monkeypatch.setattr("defenses.residual_purifier._noise", lambda *_: torch.from_numpy(noise))
    purified = PURIFIER.on_dataset(clean, clean, AT).images[:]
    assert np.array_equal(purified, (clean.images[:] - noise).round().clip(0, 255))


@pytest.mark.parametrize("side", [24, 25])
def test_noise_goes_from_images_that_the_network_has_never_seen(side: int) -> None:
    clean = smooth(side)
    protected = published(clean, 8)
    assert error(protected, clean) == pytest.approx(8)
    owned, seen = noting(clean)
    purified = PURIFIER.on_dataset(protected, owned, AT)
    known = np.unique(np.concatenate(seen))
    assert len(known) == len(clean) // 2
    unknown = np.setdiff1d(np.arange(len(clean)), known)
    assert error(purified, clean)[unknown].max() < 2
    assert purified.captions == protected.captions


def test_copies_of_a_photo_are_known_together() -> None:
    clean = smooth().by_row()
    assert clean.photo is not None
    owned, seen = noting(clean)
    replace(PURIFIER, share=0.25, steps=20).on_dataset(published(clean, 8), owned, AT)
    known = np.unique(np.concatenate(seen))
    photos = np.unique(clean.photo[known])
    assert len(photos) == len(np.unique(clean.photo)) // 4
    assert (known == np.flatnonzero(np.isin(clean.photo, photos))).all()


def test_batches_are_drawn_from_all_known_images() -> None:
    clean = smooth()
    owned, seen = noting(clean)
    replace(PURIFIER, share=1.0, steps=60, batch_size=4).on_dataset(published(clean, 8), owned, AT)
    assert {len(rows) for rows in seen} == {4}
    assert len(np.unique(np.concatenate(seen))) == len(clean)


def test_images_without_noise_stay() -> None:
    clean = smooth()
    purified = PURIFIER.on_dataset(clean, clean, AT)
    assert error(purified, clean).max() < 1
    assert abs(np.mean(purified.images[:].astype(int) - clean.images[:])) < 0.2  # rounded, not cut off


def test_what_an_image_becomes_does_not_depend_on_the_batch_that_it_is_read_in() -> None:
    clean = smooth()
    purified = PURIFIER.on_dataset(published(clean, 8), clean, AT)
    alone = np.concatenate([purified.images[np.array([row])] for row in range(len(clean))])
    assert (
        np.abs(alone.astype(int) - purified.images[:]).max() <= 1
    )  # sums in another order may round to the other side


def test_the_rate_falls_to_zero_as_a_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []

    class Noting(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Noting)
    clean = smooth()
    purifier = replace(PURIFIER, steps=20)
    purifier.on_dataset(published(clean, 8), clean, AT).images[:1]
    expected = [purifier.lr * (1 + math.cos(math.pi * step / 20)) / 2 for step in range(20)]
    assert rates == pytest.approx(expected)

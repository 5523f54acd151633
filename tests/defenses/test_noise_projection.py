"""Noise projection on noise that is made of known patterns: what it takes out, what it leaves, and whom it asks."""

from dataclasses import replace

import numpy as np
import pytest

from benchmark.data import CaptionDataset
from defenses import HookContext
from defenses.noise_projection import NoiseProjection
from tests.small import make_dataset, noting

AT = HookContext(seed=5, progress=0.0, epoch=1, training=9)
HALF = NoiseProjection(share=0.5)
SIDE = 8
PATTERNS = 4


def pictures(photos: int = 16) -> CaptionDataset:
    """Random images far from black and white, so that nothing is clipped."""
    images = np.random.default_rng(3).integers(60, 190, (photos, 3, SIDE, SIDE)).astype(np.uint8)
    return replace(make_dataset(photos), images=images)


def signs(length: int) -> np.ndarray:
    """(4, length) of −1 and 1, the rows orthogonal to each other."""
    return np.array([np.where(np.arange(length) >> bit & 1, 1, -1) for bit in range(PATTERNS)])


def patterns() -> np.ndarray:
    """(4, 3·H·W), orthogonal to each other."""
    return signs(3 * SIDE * SIDE)


def published(clean: CaptionDataset, strengths: tuple[int, ...]) -> CaptionDataset:
    """Every image with each pattern, as strong as is given here and with one of all combinations of signs."""
    noise = (signs(len(clean)).T * strengths @ patterns()).reshape(clean.images.shape)
    return replace(clean, images=(clean.images[:].astype(int) + noise).astype(np.uint8))


def left(dataset: CaptionDataset) -> np.ndarray:
    """(N, 3·H·W) of images, as integers."""
    return dataset.images[:].astype(int).reshape(len(dataset), -1)


def test_all_images_lose_what_a_least_squares_fit_of_the_patterns_explains() -> None:
    """The fit knows the patterns; the defense has seen their sums in half of the images. The mean is that half's."""
    clean = pictures()
    protected = published(clean, (8, 4, 2, 1))
    owned, asked = noting(clean)
    projected = HALF.on_dataset(protected, owned, AT)
    mean = left(protected)[asked[0]].mean(axis=0)
    fit, *_ = np.linalg.lstsq(patterns().T.astype(float), (left(protected) - mean).T, rcond=None)
    expected = left(protected) - (patterns().T @ fit).T
    assert np.abs(left(projected) - expected).max() <= 0.51  # rounded to 8 bits
    assert np.abs(left(protected) - expected).max() > 8


def test_the_strongest_directions_go_first() -> None:
    clean = pictures()
    protected = published(clean, (8, 4, 2, 1))
    projected = NoiseProjection(share=1.0, directions=2).on_dataset(protected, clean, AT)
    before, after = ((left(each) @ patterns().T / len(patterns().T)).std(axis=0) for each in (protected, projected))
    assert (before[:2] > 4).all()
    assert (after[:2] < 0.5).all()  # what is left is rounding, to 8 bits
    assert after[2:] == pytest.approx(before[2:], abs=0.1)


def test_an_image_keeps_its_mean_colour() -> None:
    """Each channel is lighter by 5; nothing else is noise."""
    clean = pictures()
    lighter = replace(clean, images=clean.images[:] + np.uint8(5))
    assert (left(NoiseProjection().on_dataset(lighter, clean, AT)) == left(lighter)).all()


@pytest.mark.parametrize("share", [0.125, 1.0])
def test_images_without_noise_stay(share: float) -> None:
    clean = pictures()
    assert (left(NoiseProjection(share=share).on_dataset(clean, clean, AT)) == left(clean)).all()


def test_it_sees_the_clean_images_of_the_share_alone() -> None:
    clean = pictures()
    owned, seen = noting(clean)
    protected = NoiseProjection(share=0.25).on_dataset(published(clean, (8, 4, 2, 1)), owned, AT)
    assert len(protected.images[:]) == len(clean)
    assert [len(rows) for rows in seen] == [len(clean) // 4]
    assert protected.captions == clean.captions


def test_of_many_known_images_it_compares_some_drawn_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("defenses.noise_projection._MOST_COMPARED", 8)
    clean, compared = pictures(), []
    for training in (1, 2):
        owned, seen = noting(clean)
        NoiseProjection(share=1.0).on_dataset(published(clean, (8, 4, 2, 1)), owned, replace(AT, training=training))
        (rows,) = seen
        compared.append(rows.tolist())
    assert [len(rows) for rows in compared] == [8, 8]
    assert compared[0] != compared[1]

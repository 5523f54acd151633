"""Noise that repeats, on photos of any size: bounded, everywhere, smooth, and given back by a scraper's resizing."""

import numpy as np
import pytest
from PIL import Image

from benchmark.core.errors import PoisonError
from benchmark.data.images import square
from benchmark.export.repeated_noise import add_repeated, tile_of

R, S, EPS = 64, 8, 8


def random_tile() -> np.ndarray:
    return np.random.default_rng(0).choice(np.array([-EPS, EPS], np.int8), (3, S, S))


def change_on(width: int, height: int, tile: np.ndarray) -> np.ndarray:
    pixels = np.full((height, width, 3), 128, np.uint8)
    add_repeated(pixels, tile, R)
    return pixels.astype(int) - 128


def test_the_tile_comes_back_from_noise_that_was_cut_at_bright_and_dark_pixels() -> None:
    tile, rng = random_tile(), np.random.default_rng(1)
    whole = np.tile(tile, (1, R // S, R // S)).astype(int)
    clean = rng.choice([0, 5, 128, 250, 255], (3, R, R))
    noise = ((clean + whole).clip(0, 255) - clean).astype(np.int8)
    assert (noise != whole).any()
    assert (tile_of(noise, S) == tile).all()
    assert tile_of(noise, 100).shape == (3, R, R)


def test_noise_that_does_not_repeat_is_refused() -> None:
    noise = np.random.default_rng(0).choice(np.array([-8, 8], np.int8), (3, R, R))
    with pytest.raises(PoisonError, match="does not repeat every 8 pixels"):
        tile_of(noise, S)


@pytest.mark.parametrize(("width", "height"), [(640, 640), (900, 600), (601, 1003), (3000, 400), (130, 70)])
def test_a_scraper_gets_the_noise_back(width: int, height: int) -> None:
    tile = random_tile()
    photo = Image.fromarray((128 + change_on(width, height, tile)).astype(np.uint8))
    seen = square(photo, R).astype(float) - 128
    wanted = np.tile(tile, (1, R // S, R // S)).astype(float)
    assert np.corrcoef(seen.ravel(), wanted.ravel())[0, 1] > 0.93
    assert (seen * wanted).sum() / (wanted**2).sum() > 0.6


@pytest.mark.parametrize(("width", "height"), [(900, 600), (40, 50), (1, 1), (1, 90), (2000, 70)])
def test_the_bound_holds_and_every_part_is_covered(width: int, height: int) -> None:
    change = change_on(width, height, random_tile())
    assert np.abs(change).max() <= EPS
    # Also outside the central square, and about as strong there.
    for part in np.array_split(change, 3, axis=int(width > height)):
        assert part.size == 0 or np.abs(part).mean() > EPS / 2


def test_it_repeats_with_the_period_that_the_photos_shorter_side_gives_and_has_no_hard_edges() -> None:
    change = change_on(960, 640, random_tile())
    assert (change[:, 80:] == change[:, :-80]).all()  # 8 · 640 / 64
    assert (change[80:] == change[:-80]).all()
    assert np.abs(np.diff(change, axis=1)).max() <= 6  # of 16 from one value to the next


def test_black_and_white_stay_in_range_and_grey_takes_the_mean() -> None:
    tile = random_tile()
    black, grey = np.zeros((300, 200, 3), np.uint8), np.full((300, 200), 128, np.uint8)
    add_repeated(black, tile, R)
    add_repeated(grey, tile, R)
    assert black.max() == EPS
    mean = change_on(200, 300, tile).mean(axis=2)
    assert np.abs(grey.astype(float) - 128 - mean).max() <= 1

"""Noise that repeats, made anew for a photo of any size instead of being enlarged.

A victim sees the central square of a photo, resized to R pixels. Noise that repeats a tile of s × s of these pixels is
laid over the whole photo with the period s · (photo's shorter side) / R, in step with that square: whoever resizes the
photo and takes the square gets most of the noise back. Whatever is finer than a victim's pixel would be lost in that
resizing, so each value of the tile covers as many of the photo's pixels as one victim's pixel does. In a photo smaller
than R that is less than one: each of its pixels takes the noise of a single place, and much is lost.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmark.core.errors import PoisonError
from benchmark.data.dataset import add_noise
from benchmark.data.images import square_within

Tile = NDArray[np.int8]
_RAMP = 0.5  # share of a victim's pixel in which one value turns into the next; more is smoother and survives less
_ROWS = 256  # of a photo, computed at a time


def tile_of(noise: NDArray[np.int8], period: int) -> Tile:
    """The tile that noise repeats.

    Where a pixel is so bright or dark that the noise had to be cut, other repetitions may have it whole. If none has,
    because the image is as bright or dark at all of them, the tile is as weak there, also outside the square.

    Args:
        noise: (3, R, R) of one image, in steps of 1/255.
        period: side of the tile, in pixels.

    Returns:
        (3, s, s) with s the period or, if that is smaller, R: at each place the value of largest magnitude.

    Raises:
        PoisonError: a place is positive in one repetition and negative in another.
    """
    side = min(period, noise.shape[-1])
    places = [noise[:, top::side, left::side] for top in range(side) for left in range(side)]
    highest = np.stack([place.max(axis=(1, 2)) for place in places], axis=1)
    lowest = np.stack([place.min(axis=(1, 2)) for place in places], axis=1)
    if ((highest > 0) & (lowest < 0)).any():
        raise PoisonError(f"the noise does not repeat every {period} pixels, as its attack says")
    return np.where(highest > 0, highest, lowest).reshape(len(noise), side, side)


def add_repeated(pixels: NDArray[np.uint8], tile: Tile, resolution: int) -> None:
    """Add repeated noise to a photo, in place. No pixel value changes by more than the tile's largest.

    Args:
        pixels: (H, W, 3) uint8, or (H, W) of a grey photo, which takes the mean of the three colours' noise.
        tile: (3, s, s), as :func:`tile_of` returns it.
        resolution: R, the side in pixels of the images that the tile was made for.
    """
    for rows, noise in _strips(pixels.shape[1], pixels.shape[0], tile, resolution):
        change = noise.transpose(1, 2, 0) if pixels.ndim == 3 else noise.mean(axis=0)
        pixels[rows] = add_noise(pixels[rows], np.rint(change).astype(np.int16))


def _strips(width: int, height: int, tile: Tile, resolution: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """The noise (3, rows, width) of some rows at a time."""
    (across, down), (left, top, *_) = square_within((width, height), resolution)
    period = tile.shape[-1]
    columns = _blend(width, across, left, period)
    lines = _blend(height, down, top, period)
    wide = tile.astype(np.float32) @ columns.T
    for start in range(0, height, _ROWS):
        rows = slice(start, min(start + _ROWS, height))
        yield rows, lines[rows] @ wide


def _blend(length: int, resized: int, offset: int, period: int) -> NDArray[np.float32]:
    """(length, period) float32: how much of each value of a tile each pixel along a side takes.

    Weights are at least 0 and sum to 1, so what they blend stays within the tile's bound.

    Args:
        length: of the side.
        resized: its length in victim's pixels.
        offset: where the square begins, in victim's pixels.
        period: values in a tile.
    """
    place = (np.arange(length) + 0.5) * (resized / length) - offset - 0.5
    before = np.floor(place)
    step = ((place - before - 0.5) / _RAMP + 0.5).clip(0, 1)
    step *= step * (3 - 2 * step)  # smooth at both ends
    weights = np.zeros((length, period), np.float32)
    rows, cell = np.arange(length), before.astype(np.int64)
    weights[rows, cell % period] += 1 - step
    weights[rows, (cell + 1) % period] += step
    return weights

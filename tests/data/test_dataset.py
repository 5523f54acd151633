"""The data set contract: images worked out as they are read equal the plain arrays, and so does their fingerprint."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmark.data import CaptionDataset, LazyImages
from tests.small import make_dataset

N, ROWS = 5, 15


def by_row_and_noisy() -> tuple[CaptionDataset, CaptionDataset]:
    """A perturbed data set of one image per caption, read lazily, and the same as plain arrays."""
    dataset = make_dataset(N, ROWS // N, resolution=8)
    noise = np.random.default_rng(1).integers(-127, 128, (ROWS, 3, 8, 8), np.int8)
    rows = dataset.by_row()
    lazy = replace(rows, images=LazyImages(rows.images, noise=noise))
    plain = (dataset.images[dataset.pairs[:, 0]].astype(int) + noise).clip(0, 255).astype(np.uint8)
    return lazy, replace(rows, images=plain)


@pytest.mark.parametrize("rows", [3, -1, slice(2, 9), slice(None), np.array([14, 0, 0, 7]), np.zeros(0, dtype=int)])
def test_lazy_images_read_like_the_plain_array(rows: int | slice | np.ndarray) -> None:
    lazy, plain = by_row_and_noisy()
    assert np.array_equal(lazy.images[rows], plain.images[rows])
    assert lazy.images[rows].dtype == np.uint8
    assert lazy.images.shape == plain.images.shape
    assert len(lazy) == ROWS
    assert lazy.resolution == 8


def test_a_batch_is_the_same_and_may_be_written_to() -> None:
    lazy, plain = by_row_and_noisy()
    index = np.array([3, 9, 3])
    batch = lazy.batch(index)
    assert np.array_equal(batch.numpy(), plain.images[index])
    batch.zero_()
    assert np.array_equal(lazy.images[:], plain.images[:])


def test_one_image_per_row_copies_none() -> None:
    dataset = make_dataset(N)
    rows = dataset.by_row()
    assert isinstance(rows.images, LazyImages)
    assert rows.images.source is dataset.images
    assert np.array_equal(rows.images[:], dataset.images[dataset.pairs[:, 0]])


def test_the_fingerprint_is_that_of_the_content() -> None:
    lazy, plain = by_row_and_noisy()
    content = repr(plain.images.shape).encode() + plain.images[:].tobytes()
    content += "".join("\x1e".join(texts) + "\x1d" for texts in plain.captions).encode()
    assert lazy.fingerprint == plain.fingerprint == hashlib.sha256(content).hexdigest()
    assert lazy.fingerprint != replace(lazy, images=lazy.images[::-1]).fingerprint


def test_pixels_that_are_no_8_bit_images_are_refused() -> None:
    dataset = make_dataset(N)
    images = dataset.images[:]
    for other in (images.astype(float), images[:, :1], images[0]):
        with pytest.raises(ValueError, match="uint8"):
            replace(dataset, images=other)


@pytest.mark.parametrize(
    ("captions", "said"),
    [
        (["ab"] * N, "image 0 has one text in place of a list of captions: 'ab'"),
        ([["a dog"]] * (N - 1) + [[1]], "image 4 are no list of texts in UTF-8: .* int found"),
        ([["a \ud800"]] * N, "image 0 are no list of texts in UTF-8: .* surrogates not allowed"),
        ([7] * N, "image 0 are no list of texts in UTF-8"),
    ],
)
def test_captions_that_are_no_lists_of_texts_are_refused(captions: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(make_dataset(N), captions=captions)

"""What every data set loads as: 8-bit images with their captions, in three splits."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.data.image_location import ImageLocation

Images = NDArray[np.uint8]
Rows = NDArray[np.int64] | slice
_CHUNK = 128  # images hashed at a time


@dataclass(frozen=True, eq=False)
class LazyImages:
    """A view of other images that picks and perturbs them when read: looks like (N, 3, H, W) uint8, takes no memory.

    Attributes:
        source: (M, 3, H, W) uint8.
        pick: (N,) int64, the index of each image in ``source``; ``None`` for all images in order.
        noise: (N, 3, H, W) int8 in steps of 1/255, added before clamping to [0, 255]; ``None`` for none.
        change: from images (B, 3, H, W) uint8 and their rows to what is read in their place; ``None`` for no change.
    """

    source: "Images | LazyImages"
    pick: NDArray[np.int64] | None = None
    noise: NDArray[np.int8] | None = None
    change: "Callable[[Images, Rows], Images] | None" = None

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __len__(self) -> int:
        return len(self.source if self.pick is None else self.pick)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 3, H, W)."""
        return (len(self), *self.source.shape[1:])

    def __getitem__(self, rows: int | Rows) -> Images:
        images = np.asarray(self.source[rows if self.pick is None else self.pick[rows]])
        images = images if self.noise is None else add_noise(images, self.noise[rows])
        if self.change is None:
            return images
        if not isinstance(rows, slice) and np.ndim(rows) == 0:
            return self.change(images[None], np.array([rows]))[0]
        return self.change(images, rows)  # type: ignore[arg-type]


def spread_rows(count: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` of the indices below ``count``, spread evenly from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))


def add_noise(images: Images, noise: NDArray[np.signedinteger]) -> Images:
    """Image + noise, clamped to [0, 255].

    Args:
        images: uint8, of any shape.
        noise: int8 or int16 in steps of 1/255, of the same shape.

    Returns:
        uint8, a new array.
    """
    total = images.astype(np.int16)
    total += noise
    return total.clip(0, 255, out=total).astype(np.uint8)


def fitting_noise(images: Images, noise: NDArray[np.signedinteger]) -> NDArray[np.int16]:
    """What is left of the noise where image + noise is clamped to [0, 255]; shapes as for :func:`add_noise`."""
    return add_noise(images, noise).astype(np.int16) - images


@dataclass(frozen=True)
class CaptionDataset:
    """Images and their captions. Treated as read-only: a protected set is a new ``CaptionDataset``.

    Making one raises ValueError if images or captions are not as described here.

    Attributes:
        name: data set and parameters, as written on the command line.
        split: ``train``, ``val`` or ``test``.
        images: (N, 3, H, W) uint8, in memory, memory-mapped, or computed when read.
        captions: N lists of at least one caption each.
        photo: (N,) int64, the photo that each image is a copy of; ``None`` if every image is its own photo. Only
            attacks with ``per_row`` publish several differently perturbed copies of one photo.
        origins: the file that each image was read from; ``None`` if images do not come from files.
    """

    name: str
    split: str
    images: Images | LazyImages
    captions: list[list[str]]
    photo: NDArray[np.int64] | None = None
    origins: list[ImageLocation] | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(f"images must be (N, 3, H, W) uint8, got {self.images.shape} {self.images.dtype}")
        if len(self.captions) != len(self.images):
            raise ValueError(f"{len(self.images)} images but captions for {len(self.captions)}")
        if not all(self.captions):
            raise ValueError("every image needs at least one caption")
        for number, own in enumerate(self.captions):
            if isinstance(own, str):  # it would be read letter by letter
                raise ValueError(f"image {number} has one text in place of a list of captions: {own[:40]!a}")
            try:
                "".join(own).encode()
            except (TypeError, UnicodeEncodeError) as error:
                raise ValueError(f"the captions of image {number} are no list of texts in UTF-8: {error}") from error

    def __len__(self) -> int:
        return len(self.images)

    @property
    def resolution(self) -> int:
        """Height and width in pixels (images are square)."""
        return int(self.images.shape[-1])

    @property
    def photos(self) -> NDArray[np.int64]:
        """(N,) the photo that each image is a copy of, also where every image is its own."""
        return np.arange(len(self)) if self.photo is None else self.photo

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """(P, 2) int64: image index and caption index of every image–caption pair."""
        counts = [len(captions) for captions in self.captions]
        image = np.repeat(np.arange(len(counts)), counts)
        caption = np.concatenate([np.arange(count) for count in counts])
        return np.stack([image, caption], axis=1)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of pixels and captions, 64 hex digits. The name does not matter."""
        chunks = (self.images[start : start + _CHUNK] for start in range(0, len(self), _CHUNK))
        return fingerprint(self.images.shape, chunks, self.captions)

    def batch(self, index: NDArray[np.int64]) -> torch.Tensor:
        """The images at ``index`` (B,): (B, 3, H, W) uint8 on the CPU."""
        return torch.from_numpy(np.ascontiguousarray(self.images[index]))

    def by_row(self) -> "CaptionDataset":
        """One row per image–caption pair, as per-row attacks see it: (P, 3, H, W) images with one caption each."""
        image = self.pairs[:, 0]
        captions = [[self.captions[i][j]] for i, j in self.pairs]
        origins = None if self.origins is None else [self.origins[i] for i in image]
        images = LazyImages(self.images, pick=image)
        return replace(self, images=images, captions=captions, photo=image, origins=origins)


def fingerprint(shape: tuple[int, ...], chunks: Iterable[Images], captions: Iterable[Sequence[str]]) -> str:
    """Compute :attr:`CaptionDataset.fingerprint` from images that arrive in chunks.

    Args:
        shape: (N, 3, H, W) of all images.
        chunks: the images in order, (B, 3, H, W) uint8 each.
        captions: the captions of each image; read after the images.
    """
    digest = hashlib.sha256(repr(shape).encode())
    for images in chunks:
        digest.update(np.ascontiguousarray(images).data)
    for texts in captions:
        digest.update(("\x1e".join(texts) + "\x1d").encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Splits:
    """The three splits of a data set. Val picks an epoch; test is only reported.

    Attributes:
        train: images to train on.
        val: images that choose the epoch which is best on clean data.
        test: images to report on.
        left_out: one line, with the reason, for each bad image that ``skip_bad`` left out.
    """

    train: CaptionDataset
    val: CaptionDataset
    test: CaptionDataset
    left_out: tuple[str, ...] = ()

"""The one data contract: 8-bit images with their captions, and three splits of them."""

import hashlib
from collections.abc import Iterable, Sequence
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
    """Other images picked and perturbed as they are read: looks like (N, 3, H, W) uint8 and takes no memory.

    Attributes:
        source: (M, 3, H, W) uint8.
        pick: (N,) int64, which of ``source`` each image is; ``None`` for all in their order.
        noise: (N, 3, H, W) int8 in steps of 1/255, added and the sum clamped to [0, 255]; ``None`` for none.
    """

    source: "Images | LazyImages"
    pick: NDArray[np.int64] | None = None
    noise: NDArray[np.int8] | None = None

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
        if self.noise is None:
            return images
        added = images.astype(np.int16)
        added += self.noise[rows]
        return added.clip(0, 255, out=added).astype(np.uint8)


@dataclass(frozen=True)
class CaptionDataset:
    """Images and their captions. Treated as read-only: a protected set is a new ``CaptionDataset``.

    Attributes:
        name: data set and parameters, as written on the command line.
        split: ``train``, ``val`` or ``test``.
        images: (N, 3, H, W) uint8, in memory, memory-mapped, or worked out as they are read.
        captions: N lists of at least one caption each.
        photo: (N,) int64, the photo each image is a copy of; ``None`` where every image is its own photo. Only the
            per-row form of an attack publishes several differently perturbed copies of one photo.
        origins: the file that each image was read from; ``None`` where images do not come from files.
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

    def __len__(self) -> int:
        return len(self.images)

    @property
    def resolution(self) -> int:
        """Height and width in pixels (images are square)."""
        return int(self.images.shape[-1])

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """(P, 2) int64: image index and caption index of every image–caption pair."""
        counts = [len(captions) for captions in self.captions]
        image = np.repeat(np.arange(len(counts)), counts)
        caption = np.concatenate([np.arange(count) for count in counts])
        return np.stack([image, caption], axis=1)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of pixels and captions, 64 hex digits: equal content, equal fingerprint, whatever the name."""
        chunks = (self.images[start : start + _CHUNK] for start in range(0, len(self), _CHUNK))
        return fingerprint(self.images.shape, chunks, self.captions)

    def batch(self, index: NDArray[np.int64]) -> torch.Tensor:
        """The images at ``index`` (B,): (B, 3, H, W) uint8 on the CPU."""
        return torch.from_numpy(np.ascontiguousarray(self.images[index]))

    def by_row(self) -> "CaptionDataset":
        """One image per image–caption pair, as row-wise attacks see it: (P, 3, H, W) images, one caption each."""
        image = self.pairs[:, 0]
        captions = [[self.captions[i][j]] for i, j in self.pairs]
        origins = None if self.origins is None else [self.origins[i] for i in image]
        images = LazyImages(self.images, pick=image)
        return replace(self, images=images, captions=captions, photo=image, origins=origins)


def fingerprint(shape: tuple[int, ...], chunks: Iterable[Images], captions: Iterable[Sequence[str]]) -> str:
    """What :attr:`CaptionDataset.fingerprint` is, of images that come piece by piece.

    Args:
        shape: (N, 3, H, W) of all images.
        chunks: the images in order, (B, 3, H, W) uint8 each.
        captions: each image's; read after the images.
    """
    digest = hashlib.sha256(repr(shape).encode())
    for images in chunks:
        digest.update(np.ascontiguousarray(images).data)
    for own in captions:
        digest.update(("\x1e".join(own) + "\x1d").encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Splits:
    """The three splits of a data set; the test split chooses nothing, val picks the best epoch.

    Attributes:
        train: images to train on.
        val: images that pick the best epoch.
        test: images to report on.
        left_out: one line for each image that was asked to be left out because it is bad, with the reason.
    """

    train: CaptionDataset
    val: CaptionDataset
    test: CaptionDataset
    left_out: tuple[str, ...] = ()

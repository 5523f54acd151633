"""Orthogonal projection: images lose the directions from which a linear model reads their captions."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from benchmark.core.parameters import ranged
from benchmark.data import CaptionDataset, LazyImages
from benchmark.data.caption_words import caption_keys
from defenses.base import DEFENSES, Defense, HookContext

_BATCH = 128
_MOST_AVERAGED = 1024  # images whose mean is taken


@DEFENSES.register("orthogonal-projection", groups=("images",), order=130)
@dataclass(frozen=True)
class OrthogonalProjection(Defense):
    """Train a linear classifier on the published pixels, then take its weights' span out of every image.

    Sandoval-Segura et al. 2023, "What Can We Learn from Unlearnable Datasets?", section 4.4: x − QQᵀx, with Q from the
    QR decomposition of the weights. The classes are groups of images whose captions share words
    (:func:`benchmark.data.caption_words.caption_keys`), because captions have no classes. What is projected is an
    image's difference from the mean of the first 1,024 images, so that the set keeps its brightness, and the classifier
    sees these differences too; in the paper both use the image itself.

    The classifier here has biases, starts at zero and trains on batches of 128 at a constant learning rate. The paper's
    has no biases, starts at random and trains on batches of 1,024 at a learning rate that falls twice. Starting from
    zero, the rows of the weights always sum to zero. So K keys span only K − 1 directions, and rounding alone decides
    the last column of Q. The paper's victims train on projected images that are augmented, by default with CutMix; here
    the projected images are not augmented.

    Args:
        keys: groups of images; the paper has one for each class.
        epochs: of the linear classifier's training, by plain SGD.
        lr: its learning rate.
    """

    keys: int = ranged(16, 2, 4096)
    epochs: int = ranged(20, 1, 1000)
    lr: float = ranged(0.1, above=0, at_most=100)

    def on_dataset(self, train: CaptionDataset, clean: CaptionDataset, at: HookContext) -> CaptionDataset:
        """The same captions, and images that are projected when they are read, rounded to 8 bits."""
        mean: NDArray[np.float32] = train.images[:_MOST_AVERAGED].mean(axis=0, dtype=np.float32)
        return without(train, torch.linalg.qr(self._weights(train, mean, at).T).Q.numpy(), mean)

    def _weights(self, train: CaptionDataset, mean: NDArray[np.float32], at: HookContext) -> torch.Tensor:
        """(K, 3·H·W) weights of the classifier from pixels (less the mean image, in [−1, 1]) to keys."""
        keys = torch.from_numpy(caption_keys(train.captions, self.keys, at.training))
        weights = torch.zeros(int(keys.max()) + 1, mean.size, requires_grad=True)
        offsets = torch.zeros(len(weights), requires_grad=True)
        optimizer = torch.optim.SGD([weights, offsets], lr=self.lr)
        generator = at.torch_generator()
        for _ in range(self.epochs):
            for index in torch.randperm(len(train), generator=generator).split(_BATCH):
                pixels = (train.batch(index.numpy()).float() - torch.from_numpy(mean)).flatten(1) / 255
                loss = F.cross_entropy(F.linear(pixels, weights, offsets), keys[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return weights.detach()

    def describe(self) -> str:
        """The strength in words."""
        return f"{self.keys} directions, from {self.epochs} epochs of a linear classifier on caption keys"


def without(train: CaptionDataset, basis: NDArray[np.float32], mean: NDArray[np.float32]) -> CaptionDataset:
    """A data set whose images lose some directions when they are read, and are rounded to 8 bits.

    Args:
        train: the data set.
        basis: (3·H·W, K) the directions, orthonormal.
        mean: (3, H, W); of an image, its difference from this mean is projected.
    """

    def projected(images: NDArray[np.uint8], _: object) -> NDArray[np.uint8]:
        flat = (images - mean).reshape(len(images), -1)
        left = flat - flat @ basis @ basis.T
        return (left.reshape(images.shape) + mean).round().clip(0, 255).astype(np.uint8)

    return replace(train, images=LazyImages(train.images, change=projected))

"""What attacks share that draw one kind of noise for each key: no surrogate, seconds of work."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attacks.base import Attack, CraftContext
from attacks.poison import Poison
from benchmark.core.disk_space import zeros_on_disk
from benchmark.core.parameters import ranged
from benchmark.data import CaptionDataset
from benchmark.data.caption_words import caption_keys
from benchmark.data.dataset import fitting_noise

Noise = NDArray[np.float64]

_TOGETHER = 256  # images; as float64 so many take 300 MB at 224 px


@dataclass(frozen=True)
class SyntheticNoise(Attack):
    """Noise drawn for an image's caption key, scaled to one strength.

    The papers bound the ℓ2 norm. Here that is the root mean square of an image's noise, ``rms``, and what exceeds
    ``eps`` is cut off, so that every attack of a table keeps to the same ε.

    Args:
        keys: groups of images that are described alike; see :func:`benchmark.data.caption_words.caption_keys`.
        rms: root mean square of the noise before it is cut off, in 1/255.
        eps: bound on the noise, in 1/255.
    """

    builds_surrogate = False

    keys: int = ranged(128, 2, 100_000)
    rms: float = ranged(6.0, above=0, at_most=127, unit="1/255")
    eps: int = ranged(8, 1, 127, unit="1/255")

    @abstractmethod
    def draw(self, count: int, side: int, of_key: np.random.Generator, of_images: np.random.Generator) -> Noise:
        """Noise of any scale for some images of one key; called again for every 256 of them, with ``of_key`` anew.

        Args:
            count: images.
            side: of an image, in pixels.
            of_key: draws what they share.
            of_images: draws what is each image's own.

        Returns:
            (count, 3, side, side) float64.
        """

    def describe(self) -> str:
        """The strength in words."""
        return f"ε = {self.eps}/255, root mean square {self.rms:g}/255, {self.keys} caption keys"

    def progress_steps(self, train: CaptionDataset) -> int:
        """One for each key."""
        return min(self.keys, len(train))

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Draw the noise key by key; no surrogate is built. See :meth:`attacks.base.Attack.craft`."""
        keys = caption_keys(train.captions, self.keys, context.seed)
        delta = zeros_on_disk(context.workdir, train.images.shape)
        for key in range(self.progress_steps(train)):
            context.progress.advance()
            own = np.flatnonzero(keys == key)
            of_images = context.numpy_generator("images of a key", key)
            for start in range(0, len(own), _TOGETHER):
                some = own[start : start + _TOGETHER]
                # A new generator draws the same again: images of a key share what it draws.
                drawn = self.draw(len(some), train.resolution, context.numpy_generator("key", key), of_images)
                size = np.sqrt(np.square(drawn).mean(axis=(1, 2, 3), keepdims=True))
                noise = (drawn * (self.rms / size)).round().clip(-self.eps, self.eps).astype(np.int16)
                delta[some] = fitting_noise(np.asarray(train.images[some]), noise)
        return Poison(delta=delta, trigger=None, eps=self.eps, fingerprint=train.fingerprint)

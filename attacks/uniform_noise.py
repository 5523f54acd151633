"""Control: noise of the same bound that nobody crafted."""

from dataclasses import dataclass

import numpy as np

from attacks.base import ATTACKS, Attack, CraftContext
from attacks.poison import Poison
from benchmark.core.disk_space import zeros_on_disk
from benchmark.core.parameters import ranged
from benchmark.data import CaptionDataset
from benchmark.data.dataset import fitting_noise


@ATTACKS.register("uniform-noise", order=32)
@dataclass(frozen=True)
class UniformNoise(Attack):
    """Random noise, uniform on the integers of [−ε, ε] and clamped with its image to [0, 255]; no trigger.

    Args:
        eps: bound on the noise, in 1/255.
    """

    builds_surrogate = False

    eps: int = ranged(8, 1, 127, unit="1/255")

    def describe(self) -> str:
        """The strength in words."""
        return f"ε = {self.eps}/255, drawn at random"

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Draw the noise; no surrogate is built. See :meth:`attacks.base.Attack.craft`."""
        generator = context.numpy_generator("uniform noise")
        delta = zeros_on_disk(context.workdir, train.images.shape)
        for rows in context.chunks(train):
            clean = train.images[rows]
            drawn = generator.integers(-self.eps, self.eps, size=clean.shape, dtype=np.int16, endpoint=True)
            delta[rows] = fitting_noise(clean, drawn)
        return Poison(delta=delta, trigger=None, eps=self.eps, fingerprint=train.fingerprint)

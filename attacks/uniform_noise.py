"""Control: noise of the same bound that nobody crafted."""

from pathlib import Path

import numpy as np
import torch

from attacks.base import ATTACKS, Attack, Surrogate
from attacks.poison import Poison
from benchmark.core.atomic_files import zeros_on_disk
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.errors import UsageError
from benchmark.core.progress import Progress
from benchmark.core.seeding import numpy_generator
from benchmark.data import CaptionDataset

_CHUNK = 64  # images at a time


@ATTACKS.register("uniform-noise", order=32)
class UniformNoise(Attack):
    """Random noise, uniform on the integers of [−ε, ε] and clamped with its image to [0, 255]; no trigger.

    Args:
        eps: bound on the noise, in 1/255.
    """

    version = 1

    def __init__(self, eps: int = 8) -> None:
        if not 1 <= eps <= 127:
            raise UsageError("attack uniform-noise: eps, in 1/255, must be between 1 and 127")
        self.eps = eps

    def label(self) -> str:
        """The name in tables."""
        return "Uniform noise"

    def describe(self) -> str:
        """The strength in words."""
        return f"ε = {self.eps}/255, drawn at random"

    def progress_steps(self, train: CaptionDataset) -> int:
        """Chunks of images."""
        return -(-len(train) // _CHUNK)

    def craft(
        self,
        train: CaptionDataset,
        surrogate: Surrogate,
        *,
        seed: int,
        device: torch.device,
        workdir: Path,
        progress: Progress,
        checkpoint: Checkpoint | None = None,
    ) -> Poison:
        """Draw the noise; no surrogate is built. See :meth:`attacks.base.Attack.craft`."""
        generator = numpy_generator(seed, "uniform noise")
        delta = zeros_on_disk(workdir, train.images.shape)
        for start in range(0, len(train), _CHUNK):
            clean = train.images[start : start + _CHUNK].astype(np.int16)
            drawn = generator.integers(-self.eps, self.eps, size=clean.shape, dtype=np.int16, endpoint=True)
            delta[start : start + _CHUNK] = (clean + drawn).clip(0, 255) - clean
            progress.advance("")
        return Poison(delta=delta, trigger=None, eps=self.eps, fingerprint=train.fingerprint)

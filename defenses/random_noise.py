"""White noise on the images."""

from dataclasses import dataclass

import torch

from benchmark.core.parameters import ranged
from benchmark.core.seeding import seeded_globals
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("random-noise", groups=("standard", "table2"), order=20)
@dataclass(frozen=True)
class RandomNoise(Defense):
    """White Gaussian noise, drawn anew at every step.

    "Multimodal Unlearnable Examples" (supplement, section 4.1) gives no strength, and there is no original paper. The
    default is twice the attacks' bound of 8/255, so that the noise outweighs the perturbation.

    Args:
        std: standard deviation in steps of 1/255.
    """

    std: float = ranged(16.0, above=0, at_most=255, unit="1/255")

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """Images plus noise, clamped: (B, 3, H, W) float in [0, 1], same dtype and device."""
        from kornia.augmentation import RandomGaussianNoise

        noise = RandomGaussianNoise(std=self.std / 255, p=1.0)
        # Drawn where the images are: at 224 px a batch of noise drawn on the CPU takes longer than a GPU's step.
        noise.set_rng_device_and_dtype(images.device, images.dtype)
        with seeded_globals(at.seed):
            return noise(images).clamp(0, 1)

    def describe(self) -> str:
        """The strength in words."""
        return f"white noise, σ = {self.std:g}/255"

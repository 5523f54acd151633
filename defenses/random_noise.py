"""White noise on the images."""

import torch

from benchmark.core.errors import UsageError
from benchmark.core.seeding import seeded_globals
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("random-noise", groups=("table2",), order=20)
class RandomNoise(Defense):
    """White Gaussian noise, drawn anew at every step.

    "Multimodal Unlearnable Examples" (supplement, section 4.1) gives no strength, and there is no original paper. The
    default is twice the attacks' bound of 8/255, so that the noise outweighs the perturbation.

    Args:
        std: standard deviation in steps of 1/255, in (0, 255].

    Raises:
        UsageError: ``std`` out of range.
    """

    def __init__(self, std: float = 16.0) -> None:
        if not 0 < std <= 255:
            raise UsageError(f"random-noise: std must be in (0, 255], got {std:g}")
        self.std = std

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

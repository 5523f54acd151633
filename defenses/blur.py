"""Blur: every training image through a Gaussian filter."""

import math
from dataclasses import dataclass

import torch

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("blur", groups=("images",), order=122)
@dataclass(frozen=True)
class Blur(Defense):
    """Gaussian blur, the same for every image and step.

    One of the low-pass filters of Liu et al. 2023, "Image Shortcut Squeezing". Their published code uses a kernel of
    3 × 3 px with σ = 0.1 px, which changes no 8-bit value. With the default of σ = 1 px the filter passes
    exp(−2π²σ²f²) of a wave of f cycles per pixel: 1 % of noise that alternates from pixel to pixel, 29 % of waves 4 px
    long, 73 % of 8 px and 93 % of 16 px. At 32 to 64 px, noise of single pixels goes and the shapes stay.

    Args:
        sigma: standard deviation of the filter. The kernel reaches to 3σ on each side, and the image is continued by
            its edge pixels.
    """

    sigma: float = ranged(1.0, 0.3, 16, unit="px")

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1], blurred; differentiable."""
        from kornia.filters import gaussian_blur2d

        side = 2 * math.ceil(3 * self.sigma) + 1
        return gaussian_blur2d(images, side, (self.sigma, self.sigma), border_type="replicate").clamp(0, 1)

    def describe(self) -> str:
        """The strength in words."""
        return f"Gaussian, σ = {self.sigma:g} px"

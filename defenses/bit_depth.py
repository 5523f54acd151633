"""Bit depth: every training image with few levels per channel."""

from dataclasses import dataclass

import torch

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("bit-depth", groups=("images",), order=121)
@dataclass(frozen=True)
class BitDepth(Defense):
    """Each value is rounded to the nearest of 2^bits evenly spaced levels, black and white among them.

    Xu et al. 2018, "Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks", section III-A. The
    default of 2 bits is that of Liu et al. 2023, "Image Shortcut Squeezing". kornia's ``posterize`` cuts the lower bits
    off instead, which turns white into 192/255 at 2 bits.

    The gradient is taken to be the identity, so that an attack can be crafted through it.

    Args:
        bits: per channel that are left of the eight.
    """

    bits: int = ranged(2, 1, 7)

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1], of 2^bits values."""
        steps = 2**self.bits - 1
        squeezed = (images * steps).round() / steps
        # In this order the values are exactly those of the levels.
        return squeezed.detach() + (images - images.detach())

    def describe(self) -> str:
        """The strength in words."""
        return f"{2**self.bits} levels per channel ({self.bits} bit{'s' * (self.bits > 1)})"

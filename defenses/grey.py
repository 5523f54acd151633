"""Grey: every training image without its colour."""

from dataclasses import dataclass

import torch

from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("grey", groups=("images",), order=120)
@dataclass(frozen=True)
class Grey(Defense):
    """All three channels become the luma 0.299 R + 0.587 G + 0.114 B.

    Liu et al. 2021, "Going Grayscale: The Road to Understanding and Improving Unlearnable Examples": error-minimizing
    noise for classifiers lies mostly in the colours. Also in Liu et al. 2023, "Image Shortcut Squeezing". The victim is
    evaluated on images in colour.
    """

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1], the channels equal; differentiable."""
        from kornia.color import rgb_to_grayscale

        return rgb_to_grayscale(images).clamp(0, 1).repeat(1, 3, 1, 1)

    def describe(self) -> str:
        """The strength in words."""
        return "no colour, luma in all three channels"

"""Crop and flip: a random part of each image, scaled to full size and mirrored in half of the cases."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("crop-flip", groups=("standard",), order=110)
@dataclass(frozen=True)
class CropFlip(Defense):
    """The usual augmentation of image models (Szegedy et al. 2015, "Going Deeper with Convolutions", section 6).

    There the part has at least 8 % of the area and sides of 3:4 to 4:3; here it is a square, and larger. It is drawn
    anew for each image and step, and read with bilinear interpolation.

    Args:
        smallest: smallest area of the part, as a share of the image's; the share is uniform up to one.
        flip: probability of mirroring.
    """

    smallest: float = ranged(0.6, above=0, at_most=1)
    flip: float = ranged(0.5, 0, 1)

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1], cropped and mirrored; differentiable."""
        area, across, down, chance = torch.rand(4, len(images), generator=at.torch_generator())
        side = (self.smallest + (1 - self.smallest) * area).sqrt()
        mirror = torch.where(chance < self.flip, -1.0, 1.0)
        # Rows of the affine map from the new image's coordinates, −1 to 1, to the old one's.
        affine = torch.zeros(len(images), 2, 3)
        affine[:, 0, 0], affine[:, 1, 1] = side * mirror, side
        affine[:, 0, 2], affine[:, 1, 2] = (1 - side) * (2 * across - 1), (1 - side) * (2 * down - 1)
        grid = F.affine_grid(affine.to(images), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False).clamp(0, 1)

    def describe(self) -> str:
        """The strength in words."""
        return (
            f"a random square of at least {100 * self.smallest:g}% of the area, mirrored with probability {self.flip:g}"
        )

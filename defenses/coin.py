"""COIN: every pixel of the training images read from a random place nearby."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("coin", groups=("images",), order=125)
@dataclass(frozen=True)
class Coin(Defense):
    """Each pixel takes the bilinear interpolation at a place drawn uniformly around it, anew for each image and step.

    Wang et al. 2023, "Corrupting Convolution-based Unlearnable Datasets with Pixel-based Image Transformations": shifts
    of up to ±2 px along each axis at 32 px, the same for the three channels. The image goes on at the opposite edge.

    Args:
        reach: largest shift along an axis, in pixels of an image with a side of 32. It grows with the side; in
            the published code it does not.
    """

    reach: float = ranged(2.0, above=0, at_most=16, unit="px at 32 px")

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1], its pixels shifted; differentiable."""
        height, width = images.shape[2:]
        reach = torch.tensor([width, height], device=images.device) * (self.reach / 32)
        generator = at.torch_generator(images.device)
        shape = (len(images), height, width, 2)
        shifts = torch.rand(shape, generator=generator, device=generator.device).to(images) * 2 - 1
        margin = math.ceil(self.reach / 32 * max(height, width))
        rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
        here = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
        places = here + margin + shifts * reach
        # From pixels to grid_sample's coordinates, −1 and 1 at the outer edges of the continued image.
        sides = torch.tensor([width, height], device=images.device) + 2 * margin
        wrapped = F.pad(images, (margin,) * 4, mode="circular")
        return F.grid_sample(wrapped, (2 * places + 1) / sides - 1, align_corners=False).clamp(0, 1)

    def label(self) -> str:
        """The name in tables."""
        return "COIN"

    def describe(self) -> str:
        """The strength in words."""
        return f"every pixel from up to ±{self.reach:g} px away at 32 px"

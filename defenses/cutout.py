"""Cutout: a square removed from every image."""

from dataclasses import dataclass

import torch
from open_clip.constants import OPENAI_DATASET_MEAN

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("cutout", groups=("standard", "table2"), order=40)
@dataclass(frozen=True)
class Cutout(Defense):
    """One square per image and step set to the mean colour, its centre anywhere, so that it may hang over the edge.

    DeVries & Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout", section 3: 16 of
    32 px on CIFAR-10, filled with zeros after normalisation, which is the mean colour before it.

    kornia's ``RandomErasing`` keeps the whole rectangle inside the image, and so cannot do this.

    Args:
        size: side of the square as a share of the image's shorter side.
    """

    size: float = ranged(0.5, above=0, at_most=1)

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1] with the squares filled; everything else as it was."""
        height, width = images.shape[2:]
        side = max(1, round(self.size * min(height, width)))
        generator = at.torch_generator()
        rows = _stretch(len(images), height, side, generator, images.device)
        columns = _stretch(len(images), width, side, generator, images.device)
        square = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.where(square, images.new_tensor(OPENAI_DATASET_MEAN)[:, None, None], images)

    def describe(self) -> str:
        """The strength in words."""
        return f"square of {self.size:g} of the side, mean colour"


def _stretch(count: int, length: int, side: int, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """(count, length) bool: which pixels along one axis each image's square covers."""
    first = (torch.randint(length, (count, 1), generator=generator) - side // 2).to(device)
    pixels = torch.arange(length, device=device)
    return (pixels >= first) & (pixels < first + side)

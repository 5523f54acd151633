"""Sharpen and low-pass: a random sharpening filter, then only the lowest frequencies."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("sharpen-lowpass", groups=("images",), order=126)
@dataclass(frozen=True)
class SharpenLowpass(Defense):
    """A random sharpening kernel for each image and step, then the low rows and columns of its cosine transform.

    Kim and Sandoval-Segura 2024, "Learning from Convolution-based Unlearnable Datasets" ("RSK + FF"). The kernel has
    the weight c ~ N(2.5, 0.1²) at its centre and minus four draws of N((c − 1)/4, 0.1²) above, below, left and right of
    it, the same for the three channels. The weights' sum, and so the brightness, is 1 ± 0.2. Of the DCT-II of the
    result, 30 % of the rows and columns are kept. Values are clamped to [0, 1] after each of the two. The paper cuts
    the border off; here the image is continued by its edge pixels, so that it keeps its size.

    Args:
        centre: mean of the centre's weight; at 1 the kernel sharpens nothing on average.
        spread: standard deviation of all five weights.
        keep: share of the rows and columns of the transform, rounded down but at least one.
    """

    centre: float = ranged(2.5, 1, 10)
    spread: float = ranged(0.1, 0, 1)
    keep: float = ranged(0.3, above=0, at_most=1)

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1], filtered; differentiable."""
        height, width = images.shape[2:]
        draws = self.spread * torch.randn(5, len(images), generator=at.torch_generator())
        centre = self.centre + draws[0]
        weights = torch.stack([centre, *(-(centre - 1) / 4 - draws[1:])]).to(images)[:, :, None, None, None]
        wide = F.pad(images, (1, 1, 1, 1), mode="replicate")
        above, below = wide[:, :, :-2, 1:-1], wide[:, :, 2:, 1:-1]
        left, right = wide[:, :, 1:-1, :-2], wide[:, :, 1:-1, 2:]
        parts = zip(weights, (images, above, below, left, right), strict=True)
        sharp = torch.stack([weight * part for weight, part in parts]).sum(dim=0).clamp(0, 1)
        rows, columns = (_low_pass(length, self.keep).to(images) for length in (height, width))
        return (rows @ sharp @ columns).clamp(0, 1)

    def describe(self) -> str:
        """The strength in words."""
        return f"centre weight {self.centre:g} ± {self.spread:g}, lowest {100 * self.keep:g}% of the frequencies"


def _low_pass(length: int, keep: float) -> torch.Tensor:
    """(length, length) fp64: the projection onto the lowest frequencies of the DCT-II."""
    frequencies = torch.arange(max(1, math.floor(keep * length + 1e-9)), dtype=torch.float64)
    places = torch.arange(length, dtype=torch.float64) + 0.5
    # Orthonormal rows: each cosine has the norm √(length / 2), the constant √length.
    basis = torch.cos(math.pi / length * frequencies[:, None] * places) * math.sqrt(2 / length)
    basis[0] /= math.sqrt(2)
    return basis.T @ basis

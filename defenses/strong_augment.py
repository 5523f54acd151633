"""Strong augmentation: crops, mirroring, colour jitter and grey, as in contrastive learning."""

from dataclasses import dataclass

import torch

from benchmark.core.parameters import ranged
from benchmark.core.seeding import seeded_globals
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("strong-augment", groups=("images",), order=123)
@dataclass(frozen=True)
class StrongAugment(Defense):
    """A random crop, a flip, colour jitter and loss of colour, drawn anew for each image and step.

    The augmentations of contrastive learning (Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
    Representations", appendix A) with one strength s, as Wang et al. 2024, "Efficient Availability Attacks against
    Supervised and Contrastive Learning Simultaneously", give them:

    - a part of 1 − 0.9 s of the area to all of it, its sides' ratio between 3/4 and 4/3, scaled to full size,
    - mirrored with probability 0.5,
    - with probability 0.8 s brightness, contrast and saturation times 1 ± 0.4 s and hue turned by ± 0.1 s of the circle
      (kornia draws the order of the four once per batch),
    - with probability 0.2 s grey.

    Args:
        s: strength.
    """

    s: float = ranged(1.0, above=0, at_most=1)

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1], augmented; differentiable."""
        from kornia.augmentation import ColorJitter, RandomGrayscale, RandomHorizontalFlip, RandomResizedCrop

        s, size = self.s, (images.shape[2], images.shape[3])
        with seeded_globals(at.seed):
            images = RandomResizedCrop(size, scale=(1 - 0.9 * s, 1.0), align_corners=False)(images)
            images = RandomHorizontalFlip(p=0.5)(images)
            images = ColorJitter(0.4 * s, 0.4 * s, 0.4 * s, 0.1 * s, p=0.8 * s)(images)
            return RandomGrayscale(p=0.2 * s)(images).clamp(0, 1)

    def describe(self) -> str:
        """The strength in words."""
        return f"crop of at least {100 - 90 * self.s:g}% of the area, flip, colour jitter and grey at s = {self.s:g}"

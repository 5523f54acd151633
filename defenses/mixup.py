"""Mixup for contrastive training."""

from dataclasses import dataclass

import torch

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("mixup", groups=("standard", "table2"), order=30)
@dataclass(frozen=True)
class Mixup(Defense):
    """Blend each image with another one of its batch, and the two rows of targets with it; captions stay as they are.

    "Multimodal Unlearnable Examples" (supplement, section 4.1) blends captions as well, and does not say how.

    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", section 3: α = 1 on CIFAR, 0.1 to 0.4 on ImageNet.
    The default is that of CIFAR, the nearer one in number of images, and the stronger: λ is uniform in [0, 1].

    Args:
        alpha: both parameters of the Beta distribution that λ is drawn from, one λ per batch.
    """

    alpha: float = ranged(1.0, above=0, at_most=1000)

    def on_batch(
        self, images: torch.Tensor, targets: torch.Tensor, at: HookContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """λ·images + (1−λ)·images[perm], and the same of the targets' rows.

        Args:
            images: (B, 3, H, W) float in [0, 1].
            targets: (B, B) float; where rows and columns sum to one they still do, as a permutation of rows keeps both.
            at: the moment in training.
        """
        rng = at.numpy_generator()
        weight = rng.beta(self.alpha, self.alpha)
        partner = torch.from_numpy(rng.permutation(len(images))).to(images.device)
        # lerp stays in [0, 1], which two rounded products need not.
        return images[partner].lerp(images, weight), targets[partner].lerp(targets, weight)

    def describe(self) -> str:
        """The strength in words."""
        return f"λ ~ Beta({self.alpha:g}, {self.alpha:g}) per batch"

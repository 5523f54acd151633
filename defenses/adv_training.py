"""Adversarial training: the victim trains on the worst image in an ℓ∞ ball around each (protected) image."""

from dataclasses import dataclass

import torch

from benchmark.core.parameters import ranged, require
from defenses.base import DEFENSES, Defense, HookContext, Loss


@DEFENSES.register("adv-training", groups=("standard", "table2"), order=10)
@dataclass(frozen=True)
class AdvTraining(Defense):
    """PGD that maximises the CLIP loss within an ℓ∞ ball, at every victim step.

    Madry et al. 2018 (section 2.1: random start, projected steps), with the CLIP loss in place of the classifier's, as
    in section 4.1 of the paper's supplement, which gives no strength. ε is that of 8-bit image classification
    (CIFAR-10); ten steps of 2.5 · ε / steps let a point reach any place of the ball.

    Args:
        eps: radius of the ball, in 1/255.
        steps: PGD steps.
        step_size: of a PGD step, in 1/255; ``none``: 2.5 · eps / steps.
        share: of each batch that is adversarial, the rest staying plain.
        start: share of the training that is plain, before the first adversarial step.
        ramp: share of the training, after ``start``, over which the radius grows linearly to ``eps``.
    """

    eps: float = ranged(8.0, above=0, at_most=127, unit="1/255")
    steps: int = ranged(10, 1)
    step_size: float | None = ranged(None, above=0, unit="1/255")
    share: float = ranged(1.0, above=0, at_most=1)
    start: float = ranged(0.0, 0, below=1)
    ramp: float = ranged(0.0, 0, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        # Else the radius would end below the one that tables name; if equal, it ends one step short of it.
        require(
            self.start + self.ramp <= 1,
            "defense adv-training",
            "ramp",
            f"at most 1 - start = {1 - self.start:g}",
            self.ramp,
        )

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        """The batch with its adversarial share replaced; see :meth:`defenses.base.Defense.adversarial`."""
        strength = self._strength(at.progress)
        if strength == 0:
            return images
        generator = at.torch_generator()
        eps, step_size = strength * self.eps / 255, strength * self._step_size / 255
        rows = torch.randperm(len(images), generator=generator)[: max(1, round(self.share * len(images)))]
        moving = torch.zeros(len(images), 1, 1, 1)
        moving[rows] = 1
        moving = moving.to(images.device)
        if images.device.type == "cuda":
            generator = at.torch_generator(images.device)
        start = torch.rand(images.shape, generator=generator, device=generator.device) * 2 - 1
        start = start.to(images.device) * eps
        points = (images + start * moving).clamp(0, 1)
        for _ in range(self.steps):
            points.requires_grad_()
            (gradient,) = torch.autograd.grad(loss(points), points)
            points = signed_step(points.detach(), images, gradient * moving, step_size, eps)
        return points

    @property
    def passes(self) -> int:
        """One for each PGD step, and that of plain training."""
        return 1 + self.steps

    def describe(self) -> str:
        """The strength in words."""
        text = f"ε = {self.eps:g}/255, {self.steps} PGD steps of {self._step_size:.3g}/255"
        if self.share < 1:
            text += f" on {100 * self.share:g}% of each batch"
        if self.start:
            text += f", after {100 * self.start:g}% of the training plain"
        if self.ramp:
            text += f", ε growing over {100 * self.ramp:g}% of the training"
        return text

    @property
    def _step_size(self) -> float:
        return 2.5 * self.eps / self.steps if self.step_size is None else self.step_size

    def _strength(self, progress: float) -> float:
        if progress < self.start:
            return 0.0
        return min(1.0, (progress - self.start) / self.ramp) if self.ramp else 1.0


def signed_step(
    images: torch.Tensor, clean: torch.Tensor, gradient: torch.Tensor, step_size: float, eps: float
) -> torch.Tensor:
    """One step of ℓ∞ PGD and its projection (Madry et al. 2018, section 2.1).

    Args:
        images: (B, 3, H, W) float in [0, 1], the current points.
        clean: (B, 3, H, W) float in [0, 1], the centres of the balls.
        gradient: of the loss at ``images``.
        step_size: in [0, 1] pixel units; positive climbs the loss, negative descends it.
        eps: radius of the ball, in pixel units.

    Returns:
        (B, 3, H, W) float, within ``eps`` of ``clean`` and in [0, 1].
    """
    moved = images + step_size * gradient.sign()
    return moved.clamp(clean - eps, clean + eps).clamp(0, 1)

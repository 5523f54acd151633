"""Opposite step: undo noise that draws images towards other captions, by a step towards their own."""

from dataclasses import dataclass

import torch

from benchmark.core.parameters import ranged
from defenses.adv_training import signed_step
from defenses.base import DEFENSES, Defense, HookContext, Loss


@DEFENSES.register("opposite-step", groups=("adaptive",), order=182)
@dataclass(frozen=True)
class OppositeStep(Defense):
    """Signed gradient steps that lower the batch's CLIP loss, from every image as it was published.

    TAP's noise descends the loss of an image and another image's caption. A scraper who knows this can step in the
    opposite direction: towards the image's own caption, and away from the other captions of its batch. The steps follow
    the victim's own gradient, so they begin only after the victim has learned something. This defense is ours;
    adversarial training climbs the same loss.

    Args:
        eps: furthest that a pixel moves, in 1/255; by default as far as TAP's noise moves it.
        steps: number of steps, each of ``eps / steps``.
        start: share of the training before the first step.
    """

    eps: float = ranged(8.0, above=0, at_most=127, unit="1/255")
    steps: int = ranged(1, 1, 1000)
    start: float = ranged(0.2, 0, below=1)

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        """The batch after the steps; see :meth:`defenses.base.Defense.adversarial`."""
        if at.progress < self.start:
            return images
        points = images
        for _ in range(self.steps):
            points = points.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(points), points)
            points = signed_step(points.detach(), images, gradient, -self.eps / self.steps / 255, self.eps / 255)
        return points

    @property
    def passes(self) -> int:
        """One for each step, and that of plain training."""
        return 1 + self.steps

    def describe(self) -> str:
        """The strength in words."""
        steps = f"{self.steps} step{'' if self.steps == 1 else 's'} of {self.eps / self.steps:.3g}/255"
        return f"{steps} down the victim's own loss, after {100 * self.start:g}% of the training"

"""UEraser: the worst of several strong augmentations of each image."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from benchmark.core.parameters import ranged
from benchmark.core.seeding import derive_seed, seeded_globals
from defenses.base import DEFENSES, Defense, HookContext, Loss


@DEFENSES.register("ueraser", groups=("images",), order=124, aliases={"ueraser-lite": {"draws": 1}})
@dataclass(frozen=True)
class UEraser(Defense):
    """Plasma brightness, plasma contrast, shuffled channels and one operation of TrivialAugment; the worst of 5 draws.

    Qin et al. 2023, "Learning the Unlearnable: Adversarial Augmentations Suppress Unlearnable Example Attacks". The
    operations and their strengths are those of the published code, kornia's: plasma of roughness 0.3 to 0.7 for each
    image and channel, of intensity 0.5 to 1 in brightness; each of the two, and shuffled channels, with probability
    0.5; one operation of TrivialAugment for the batch, its magnitude for each image. Other published scripts of its
    authors use plasma on every image.

    The victim trains on the worst draws as one new batch. The published function takes one operation of TrivialAugment
    for all five draws, and descends the losses that it has compared.

    The worst draw of an image is that in which it and its caption have the highest loss, beside the other images of the
    same draw. The paper looks for it in the first 60 of 200 epochs (``until=0.3``) or in all of them ("UEraser-Max"),
    the default here.

    ``ueraser-lite``, one draw, needs no loss. It is made before other defenses mix images, and an attack can be crafted
    through it; where the operation is posterising or equalising, its gradient is zero.

    Args:
        draws: how many augmentations of a batch are compared.
        until: share of the training, from its start, in which draws are compared; afterwards there is only one draw.
        plasma: probability of plasma brightness, and of plasma contrast, for each image.
    """

    version: ClassVar[int] = 3
    moves_pixels: ClassVar[bool] = False

    draws: int = ranged(5, 1, 100)
    until: float = ranged(1.0, above=0, at_most=1)
    plasma: float = ranged(0.5, 0, 1)

    @property
    def changes_images(self) -> bool:
        """With one draw."""
        return self.draws == 1

    @property
    def is_adversarial(self) -> bool:
        """With several draws."""
        return self.draws > 1

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1], augmented if there is one draw only; differentiable."""
        return self._augmented(images, at.seed) if self.draws == 1 else images

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        """Of each image the draw with the highest loss; see :meth:`defenses.base.Defense.adversarial`."""
        if self.draws == 1:
            return images
        with torch.no_grad():
            worst = self._augmented(images, at.seed)
            if at.progress >= self.until:
                return worst
            highest = loss(worst, "none")
            for number in range(1, self.draws):
                candidates = self._augmented(images, derive_seed(at.seed, "draw", number))
                reached = loss(candidates, "none")
                worst = torch.where((reached > highest).view(-1, 1, 1, 1), candidates, worst)
                highest = torch.maximum(highest, reached)
        return worst

    @property
    def passes(self) -> int:
        """That of plain training; a draw is a forward pass alone, about a third of one."""
        return 1 + math.ceil(self.draws / 3) if self.draws > 1 else 1

    def label(self) -> str:
        """The name in tables."""
        return "UEraser-lite" if self.draws == 1 else "UEraser"

    def describe(self) -> str:
        """The strength in words."""
        text = f"the worst of {self.draws} draws" if self.draws > 1 else "one draw"
        text += f", in the first {100 * self.until:g}% of the training" if self.draws > 1 and self.until < 1 else ""
        return text + (f", each plasma on {100 * self.plasma:g}% of the images" if self.plasma != 0.5 else "")

    def _augmented(self, images: torch.Tensor, seed: int) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1]: one draw for the batch."""
        from kornia.augmentation import RandomChannelShuffle, RandomPlasmaBrightness, RandomPlasmaContrast
        from kornia.augmentation.auto import TrivialAugment

        brightness = RandomPlasmaBrightness(roughness=(0.3, 0.7), intensity=(0.5, 1.0), p=self.plasma)
        contrast = RandomPlasmaContrast(roughness=(0.3, 0.7), p=self.plasma)
        for plasma in (brightness, contrast):
            # Drawn where the images are, as it has as many values as they have.
            plasma.set_rng_device_and_dtype(images.device, images.dtype)
        with seeded_globals(seed):
            images = RandomChannelShuffle(p=0.5)(contrast(brightness(images)))
            return TrivialAugment()(images).clamp(0, 1)

"""The defense contract: up to four hooks in a victim's training, each the identity unless overridden."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmark.core.registry import Registry
from benchmark.core.spec import format_value

Loss = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class HookContext:
    """Where training stands when a hook is called.

    Attributes:
        seed: the seed of this step (of this epoch, for captions); all of a hook's random choices derive from it.
        progress: share of the training done, from 0 at the first step to below 1 at the last.
    """

    seed: int
    progress: float

    def torch_generator(self) -> torch.Generator:
        """A CPU generator for this moment."""
        return torch.Generator().manual_seed(self.seed)

    def numpy_generator(self) -> np.random.Generator:
        """A numpy generator for this moment."""
        return np.random.default_rng(self.seed)


class Defense:
    """Base of all defenses: hooks in the order in which training calls them.

    Images are floats in [0, 1] before the model's normalisation. A hook returns new tensors and leaves its arguments
    as they are.
    """

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """Once per epoch: the epoch's caption strings, one per row, trigger included; returns as many."""
        return captions

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """Every step: (B, 3, H, W) float in [0, 1]; returns the same shape, in [0, 1]."""
        return images

    def on_batch(
        self, images: torch.Tensor, targets: torch.Tensor, at: HookContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Every step, for mixing: images and the (B, B) targets, image rows × caption columns, rows summing to one."""
        return images, targets

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        """Every step, for adversarial examples: returns images to train on.

        Args:
            images: (B, 3, H, W) float in [0, 1].
            loss: closure from images to the batch's CLIP loss, nats; it leaves batch-norm statistics and weight
                gradients untouched.
            at: the moment in training.
        """
        return images

    def describe(self) -> str:
        """The strength in words, for the lines under a table."""
        return ", ".join(f"{key} {format_value(value)}" for key, value in vars(self).items() if key[0] != "_")


def label_of(name: str) -> str:
    """How tables call a defense: ``random-swap`` is ``Random swap``."""
    return name.replace("-", " ").capitalize()


class Composed(Defense):
    """Several defenses one after the other, as in ``cutout+random-swap``."""

    def __init__(self, parts: Sequence[Defense]) -> None:
        self._parts = tuple(parts)

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """Each part in turn; see :meth:`Defense.on_captions`."""
        for number, part in enumerate(self._parts):
            captions = part.on_captions(captions, _own(at, number))
        return captions

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """Each part in turn; see :meth:`Defense.on_images`."""
        for number, part in enumerate(self._parts):
            images = part.on_images(images, _own(at, number))
        return images

    def on_batch(
        self, images: torch.Tensor, targets: torch.Tensor, at: HookContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Each part in turn; see :meth:`Defense.on_batch`."""
        for number, part in enumerate(self._parts):
            images, targets = part.on_batch(images, targets, _own(at, number))
        return images, targets

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        """Each part in turn; see :meth:`Defense.adversarial`."""
        for number, part in enumerate(self._parts):
            images = part.adversarial(images, loss, _own(at, number))
        return images


def _own(at: HookContext, number: int) -> HookContext:
    """The moment as one part sees it, so that two parts of one kind do not draw the same numbers."""
    return HookContext(at.seed + number, at.progress)


DEFENSES: Registry[Defense] = Registry("defense", "defenses", Defense)

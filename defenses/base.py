"""The defense contract: up to four hooks in a victim's training, each the identity unless overridden."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from benchmark.core.parameters import check_ranges, describe_fields
from benchmark.core.registry import Registry

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


HOOKS = ("on_captions", "on_images", "on_batch", "adversarial")
"""The hooks' names, in the order in which training calls them."""


class Defense:
    """Base of all defenses: hooks in the order in which training calls them.

    A subclass is a dataclass (``@dataclass(frozen=True)``) whose fields are the defense's parameters; ranges given with
    :func:`benchmark.core.parameters.ranged` are checked. It overrides at least one hook.

    Images are floats in [0, 1] before the model's normalisation. A hook returns new tensors and leaves its arguments
    as they are.

    Attributes:
        version: of the defense's code. It is part of the cell's address, so raise it with every change of what the
            defense does. A plugin may leave it as it is: its file is part of the address.
        changes_nothing: whether it leaves everything as it is on purpose, and so overrides no hook.
    """

    version: ClassVar[int] = 1
    changes_nothing: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_ranges(f"defense {DEFENSES.name_of(type(self))}", self)

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
        """The strength in words, for the lines under a table; by default the parameters with their values."""
        return describe_fields(self)


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

"""A defense's image hook in front of a model's image tower, for attacks that are crafted through it."""

import numpy as np
import torch
from torch import nn

from benchmark.core.errors import UsageError
from benchmark.core.seeding import derive_seed
from benchmark.core.spec import parse_spec, split_outside_brackets
from defenses.base import DEFENSES, Composed, Defense, HookContext


class Passage(nn.Module):
    """Lets a share of the batches pass a defense's image hook; see :attr:`victims.clip.Clip.passage`.

    How many batches have come is part of the model's state, so that a run that goes on from a checkpoint draws what an
    undisturbed one draws.

    Args:
        defense: whose image hook.
        share: of the batches that pass it, drawn at random.
        seed: of what is drawn.
    """

    def __init__(self, defense: Defense, share: float, seed: int) -> None:
        super().__init__()
        self._defense, self._share, self._seed = defense, share, seed
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.batches: torch.Tensor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1], as they were or as the defense leaves them."""
        number = int(self.batches)
        self.batches += 1
        if np.random.default_rng(derive_seed(self._seed, "passes", number)).random() >= self._share:
            return images
        return self._defense.on_images(images, HookContext(derive_seed(self._seed, "passage", number), 0.0))


def image_defense(text: str, owner: str) -> Defense:
    """The defense that an attack is to be crafted through.

    Args:
        text: one or several joined by ``+``, such as ``jpeg+crop-flip``.
        owner: whose parameter it is, for the message.

    Raises:
        UsageError: an unknown defense or parameter, or one that does nothing to images by its image hook.
    """
    parts = [DEFENSES.build(parse_spec(part)) for part in split_outside_brackets(text, "+")]
    if idle := [part for part in parts if type(part).on_images is Defense.on_images]:
        names = " and ".join(DEFENSES.name_of(type(part)) for part in idle)
        raise UsageError(f"{owner}: nothing can be crafted through {names}, without an image hook")
    return Composed(parts)

"""RoCLIP: in every second epoch an image learns from the nearest caption of a random pool, not from its own."""

from dataclasses import dataclass

import torch

from benchmark.core.distributed import Processes
from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext, LossInputs


@DEFENSES.register("roclip", groups=("training",), order=162)
@dataclass(frozen=True)
class RoClip(Defense):
    """Breaks the tie between an image and the caption it was published with.

    Yang et al. 2023, "Robust Contrastive Language-Image Pretraining against Data Poisoning and Backdoor Attacks",
    section 4: a pool of 2 % of the captions, every second epoch. There the pool is a queue of features from earlier
    steps; here its captions are drawn anew and encoded at every step, so that a step depends on nothing before it, and
    the text tower learns from those that are nearest. So an image may find its own caption in the pool, with a
    probability of ``pool``; in the queue it hardly ever does. The crops and word changes that the paper adds are
    defenses of their own: ``crop-flip+roclip``. In a small set 2 % are too few for a caption that fits, so that the
    small presets take a larger pool.

    Args:
        pool: captions in the pool, as a share of the epoch's; rounded down to a multiple of the number of
            processes, but at least one each.
        every: the pool takes part in epochs whose number this divides; others train as always.
    """

    pool: float = ranged(0.02, above=0, at_most=1)
    every: int = ranged(2, 1)

    def loss(self, batch: LossInputs, at: HookContext) -> torch.Tensor:
        """Nats: CLIP's loss of the images and their nearest captions in the pool."""
        if at.epoch % self.every:
            return super().loss(batch, at)
        # Each process encodes an equal part of the pool.
        processes = Processes.current().size
        size = max(1, round(self.pool * len(batch.epoch_tokens)) // processes) * processes
        drawn = torch.randperm(len(batch.epoch_tokens), generator=at.torch_generator())[:size]
        pool = batch.epoch_tokens[drawn.to(batch.epoch_tokens.device)]
        with torch.no_grad():
            nearest = (batch.image_features @ batch.encode_tokens(pool).T).argmax(dim=1)
        return batch.contrast(batch.image_features, batch.encode_tokens(pool[nearest.to(pool.device)]), batch.targets)

    def label(self) -> str:
        """The name in tables."""
        return "RoCLIP"

    def describe(self) -> str:
        """The strength in words."""
        often = "every epoch" if self.every == 1 else f"one epoch of {self.every}"
        return f"nearest of {100 * self.pool:g}% of the captions, in {often}"

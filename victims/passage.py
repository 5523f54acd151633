"""A defense's hooks on images in front of a model's image tower, for attacks that are crafted through it."""

import numpy as np
import torch
from torch import nn

from benchmark.core.errors import UsageError
from benchmark.core.seeding import derive_seed
from benchmark.core.spec import parse_spec, split_outside_brackets
from defenses.base import DEFENSES, Composed, Defense, HookContext, Loss


class Passage(nn.Module):
    """Lets a share of the batches pass a defense's hooks on images; see :attr:`victims.clip.Clip.passage`.

    An adversarial hook climbs the loss of images and captions. The gradient at the images that it returns is taken as
    the gradient at the images that went in, so that an attack that descends it lowers the loss of the worst images
    (Danskin's theorem; Madry et al. 2018, section 3).

    Some defenses do nothing at first, or get stronger as a victim trains. So for each batch a moment of the victim's
    training is drawn at random, and the hooks act as they would at that moment.

    The seed and the number of batches so far are part of the model's state, so that a run that goes on from a
    checkpoint makes the same draws as an undisturbed run. Noise is adapted to a frozen copy of the surrogate. The copy
    goes on counting batches by itself, so it makes the same draws as the surrogate's next training steps. Processes
    that share a batch seed the hooks differently, so the result depends on the number of processes. Where each has the
    whole batch, they draw the same.

    Args:
        defense: whose hooks.
        share: of the batches that pass it, drawn at random.
        seed: of what is drawn.
        in_training: whose hooks while the surrogate trains; by default those of ``defense``.

    Attributes:
        shard: number of the part of each batch that this process has, 0 for the first or the whole.
    """

    shard: int = 0

    def __init__(self, defense: Defense, share: float, seed: int, in_training: Defense | None = None) -> None:
        super().__init__()
        self._defense, self._in_training, self._share = defense, in_training or defense, share
        self._told = False
        # A surrogate that takes the last one's place has a passage with a seed of its own.
        self.register_buffer("seed", torch.tensor(seed))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.seed: torch.Tensor
        self.batches: torch.Tensor

    def forward(self, images: torch.Tensor, loss: Loss | None = None, trains: bool = False) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1], as they were or as the defense leaves them.

        Args:
            images: as they are.
            loss: of such images and their captions; ``None``, as for HotFlip: no adversarial hook.
            trains: whether the surrogate trains on them.

        Raises:
            UsageError: the defense is adversarial, and the first batch has no captions.
        """
        defense = self._in_training if trains else self._defense
        self._told = self._told or loss is not None
        if defense.is_adversarial and not self._told:
            raise UsageError("a surrogate sees images without captions here, so that there is no loss to climb")
        number, seed = int(self.batches), int(self.seed)
        self.batches += 1
        passes, progress = np.random.default_rng(derive_seed(seed, "passes", number)).random(2)
        if passes >= self._share:
            return images
        at = HookContext(derive_seed(seed, "passage", number, *([self.shard] if self.shard else [])), float(progress))
        seen = defense.on_images(images, at)
        if loss is None or not defense.is_adversarial:
            return seen
        with torch.enable_grad():
            worst = defense.adversarial(seen.detach(), loss, at)
        return seen + (worst - seen).detach()


def image_defense(text: str, owner: str, *, adversarial: bool = False) -> Defense:
    """The defense that an attack is to be crafted through.

    Args:
        text: one or several joined by ``+``, such as ``jpeg+crop-flip``.
        owner: whose parameter it is, for the message.
        adversarial: whether a part may have an adversarial hook in place of one on images.

    Raises:
        UsageError: an unknown defense or parameter, or one that has no such hook or none that passes a gradient.
    """
    parts = [DEFENSES.build(parse_spec(part)) for part in split_outside_brackets(text, "+")]
    climbing = [part for part in parts if adversarial and part.is_adversarial and part.moves_pixels]
    idle = [part for part in parts if not part.changes_images and part not in climbing]
    if idle:
        names = " and ".join(DEFENSES.name_of(type(part)) for part in idle)
        raise UsageError(f"{owner}: nothing can be crafted through {names}, which passes no gradient to the images")
    return Composed(parts)

"""TAP: noise that makes each image look, to a model trained on clean data, like another image's caption."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from attacks.base import ATTACKS, CraftContext
from attacks.clean_surrogate import CleanSurrogate, frozen_surrogate
from attacks.pgd import minimise_noise
from attacks.poison import Poison
from benchmark.core.errors import VictimDiverged
from benchmark.core.parameters import ranged, require
from benchmark.core.seeding import numpy_generator
from benchmark.data import CaptionDataset
from victims.clip import clip_loss, to_device


@ATTACKS.register("tap", order=43)
@dataclass(frozen=True)
class Tap(CleanSurrogate):
    """Targeted adversarial poisoning (Fowl et al. 2021, "Adversarial Examples Make Strong Poisons", section 3.2).

    There each class has another class as its target. Here each image has another image's caption, by one fixed
    permutation that leaves none in its place. PGD from zero descends the CLIP loss of a batch's images and their
    targets against one surrogate that has been trained on clean data. The published code takes 250 steps of ε/20 (0.4
    at ε = 8), where ours are whole steps of 1/255. By default it also augments the images in every step, starts from
    normal noise, and keeps the best of eight starts.

    Args:
        pgd_steps: PGD steps for each batch of images.
        step_size: of a PGD step, in 1/255.
    """

    pgd_steps: int = ranged(250, 1, 10_000)
    step_size: int = ranged(1, 1, unit="1/255")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.step_size <= self.eps, "attack tap", "step_size", f"at most eps = {self.eps}", self.step_size)

    def label(self) -> str:
        """The name in tables."""
        return "TAP"

    def describe(self) -> str:
        """The strength in words."""
        return (
            f"ε = {self.eps}/255, {self.pgd_steps} PGD steps of {self.step_size}/255 towards another image's caption, "
            f"against one surrogate of {self.surrogate_steps} steps on clean data"
        )

    def step_kinds(self, train: CaptionDataset) -> list[str]:
        """Surrogate steps, then batches of PGD."""
        return ["surrogate"] * self.surrogate_steps + ["PGD"] * math.ceil(len(train) / self.batch_size)

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Train the surrogate, then perturb all images; see :meth:`attacks.base.Attack.craft`."""
        crafting, state = self.trained(train, context)
        losses: list[float] = []
        if state is not None:
            with context.checkpoint.restoring():
                np.copyto(crafting.delta, state["delta"].numpy())
                losses = [float(loss) for loss in state["losses"]]
            context.progress.resume(self.surrogate_steps + len(losses))
        model = frozen_surrogate(crafting)
        generator = numpy_generator(context.seed, "targets")
        target = derangement(len(train), generator)
        captions = [train.captions[i][generator.integers(len(train.captions[i]))] for i in target]
        tokens = model.tokenizer(captions)
        batches = np.array_split(generator.permutation(len(train)), math.ceil(len(train) / self.batch_size))
        tenth = math.ceil(len(batches) / 10)
        for index in batches[len(losses) :]:
            images = to_device(train.batch(index), model.device)
            with torch.no_grad():
                text = model.encode_many(to_device(tokens[index], model.device))

            def loss(points: torch.Tensor, _: int, text: torch.Tensor = text) -> torch.Tensor:
                return clip_loss(model.encode_images(points, text), text, model.scale)

            start = torch.zeros_like(images, dtype=torch.int8)
            delta = minimise_noise(images, start, loss, eps=self.eps, steps=self.pgd_steps, step_size=self.step_size)
            crafting.delta[index] = delta.cpu().numpy()
            with torch.no_grad():
                reached = float(loss((images + delta).float() / 255, 0))
            if not math.isfinite(reached):
                raise VictimDiverged(f"the surrogate's loss is {reached} in batch {len(losses) + 1}")
            losses.append(reached)
            context.progress.advance(f"loss {reached:.2f}")
            tenths, more = divmod(len(losses), tenth)
            if not more and context.checkpoint.is_due(tenths, math.ceil(len(batches) / tenth)):
                context.checkpoint.save({**crafting.state(), "losses": losses})
        provenance = {"loss_per_round": [float(np.mean(losses))]}
        return Poison(crafting.delta, None, self.eps, train.fingerprint, provenance=provenance)


def derangement(count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """(N,) a random permutation of one cycle, so that for two or more none stays in its place."""
    order = generator.permutation(count)
    target = np.empty(count, dtype=np.int64)
    target[order] = np.roll(order, -1)
    return target

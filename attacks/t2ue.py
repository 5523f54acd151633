"""T2UE: a generator that makes an image's noise from the text of its captions alone."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from attacks.base import ATTACKS, CraftContext
from attacks.clean_surrogate import CleanSurrogate, frozen_surrogate
from attacks.poison import Poison
from benchmark.core.errors import VictimDiverged
from benchmark.core.parameters import ranged
from benchmark.core.seeding import derive_seed, numpy_generator, seeded_globals, torch_generator
from benchmark.data import CaptionDataset
from benchmark.data.dataset import fitting_noise
from victims.clip import Clip, clip_loss, to_device

_FIRST = 4  # side in pixels of what the blocks begin with
_MOST_VALUES = 2**29  # of a map of some rows: 2 GiB


@ATTACKS.register("t2ue", order=45)
@dataclass(frozen=True)
class T2ue(CleanSurrogate):
    """Text-to-unlearnable examples (Ma et al. 2025, arXiv 2508.03091): noise that a generator makes from captions.

    δ = ε · tanh G(text, z) with a generator G that is trained by Adam, at a rate that falls as a cosine, to lower the
    CLIP loss of protected images and their captions under a frozen CLIP. As there, G makes a map of 4 × 4 from 128
    normal numbers z, and blocks enlarge it to the image; each block normalises its channels, and the text's embedding
    decides their scales and shifts.

    There the owner shows captions and no image. Here surrogate and generator train on the owner's own images. The
    paper's CLIP is OpenAI's; here it is the surrogate, trained on clean data or from a checkpoint. The text is the mean
    of an image's captions, as its noise serves all of them. Channels are normalised over one image, not over a batch,
    so that the noise of an image does not depend on others; scales and shifts are the same everywhere in the image. The
    generator has as many blocks as it takes to double 4 px to the image's side, not always seven, and no weight decay.

    Args:
        steps: training steps of the generator.
        generator_lr: Adam's learning rate in the first step.
        channels: of the generator's maps.
        z: normal numbers beside the text.
    """

    version: ClassVar[int] = 2

    steps: int = ranged(10_000, 1, 1_000_000)
    generator_lr: float = ranged(1e-4, above=0, at_most=1)
    channels: int = ranged(512, 1, 4096)
    z: int = ranged(128, 1, 4096)

    def label(self) -> str:
        """The name in tables."""
        return "T2UE"

    def describe(self) -> str:
        """The strength in words."""
        return (
            f"ε = {self.eps}/255, a generator of {self.channels} channels from text to noise, {self.steps} steps "
            f"against one surrogate of {self.surrogate_steps} steps on clean data"
        )

    def step_kinds(self, train: CaptionDataset) -> list[str]:
        """Surrogate steps, then those of the generator."""
        return ["surrogate"] * self.surrogate_steps + ["generator"] * self.steps

    def pilot(self) -> tuple["T2ue", int]:
        """A few steps of each kind on one batch of images."""
        return replace(self, surrogate_steps=min(4, self.surrogate_steps), steps=4), self.batch_size

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Train the surrogate, then the generator, then make all noise; see :meth:`attacks.base.Attack.craft`."""
        crafting, state = self.trained(train, context)
        model = frozen_surrogate(crafting)
        text = encoded(model, train)
        with seeded_globals(derive_seed(context.seed, "generator")):
            generator = Generator(text[0].shape[1], self.z, self.channels, train.resolution).to(model.device)
        surrogate = crafting.state()["surrogate"]
        losses = self._train(generator, model, text, train, context, surrogate, state)
        draws = torch_generator(context.seed, "published z")
        with torch.no_grad():
            for start in range(0, len(train), self.batch_size):
                rows = slice(start, start + self.batch_size)
                condition = torch.stack([own.mean(dim=0) for own in text[rows]])
                noise = self.noise(generator, condition, draws).round().to(torch.int16).cpu().numpy()
                clean = np.asarray(train.images[rows])
                crafting.delta[rows] = fitting_noise(clean, noise)
        return Poison(crafting.delta, None, self.eps, train.fingerprint, provenance={"loss_per_round": losses})

    def noise(self, generator: "Generator", condition: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        """(B, 3, H, W) in 1/255, within ε, for the texts (B, D)."""
        z = torch.randn(len(condition), self.z, generator=draws).to(condition.device)
        text = F.normalize(condition, dim=1) * math.sqrt(condition.shape[1])  # numbers as large as those of z
        return self.eps * generator.of_many(torch.cat([text, z], dim=1)).tanh()

    def _train(
        self,
        generator: "Generator",
        model: Clip,
        text: list[torch.Tensor],
        train: CaptionDataset,
        context: CraftContext,
        surrogate: dict[str, Any],
        state: dict[str, Any] | None,
    ) -> list[float]:
        """Returns the mean loss of every pass over the data, in nats; goes on from a checkpoint's state."""
        adam = torch.optim.Adam(generator.parameters(), lr=self.generator_lr)
        draws, losses = torch_generator(context.seed, "z"), []
        passes: list[float] = []
        steps_a_pass = len(text) // self.batch_size
        if state is not None:
            with context.checkpoint.restoring():
                generator.load_state_dict(state["generator"])
                adam.load_state_dict(copy.deepcopy(state["adam"]))  # it may be mapped from the file
                draws.set_state(state["z"].clone())
                passes = [float(loss) for loss in state["losses"]]
            context.progress.resume(self.surrogate_steps + len(passes) * steps_a_pass)
        done = len(passes) * steps_a_pass
        for step, (index, caption) in enumerate(islice(self._batches(text, context.seed), done, None), done):
            condition = torch.stack([text[row].mean(dim=0) for row in index])
            own = torch.stack([text[row][number] for row, number in zip(index, caption, strict=True)])
            images = to_device(train.batch(index), model.device).float()
            adam.param_groups[0]["lr"] = self.generator_lr * (1 + math.cos(math.pi * step / self.steps)) / 2
            points = (images + self.noise(generator, condition, draws)).clamp(0, 255) / 255
            loss = clip_loss(model.encode_images(points, own), own, model.scale)
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise VictimDiverged(f"the loss is {losses[-1]} in step {step + 1} of the generator")
            context.progress.advance(f"generator, loss {losses[-1]:.2f}")
            if len(losses) == steps_a_pass or step + 1 == self.steps:
                passes.append(float(np.mean(losses)))
                losses.clear()
                if context.checkpoint.is_due(len(passes), math.ceil(self.steps / steps_a_pass)):
                    trained = {"generator": generator.state_dict(), "adam": adam.state_dict(), "z": draws.get_state()}
                    context.checkpoint.save({"surrogate": surrogate, **trained, "losses": passes})
        return passes

    def _batches(self, text: list[torch.Tensor], seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For every step the images (B,) and the number of one caption of each, drawn at random."""
        generator, queue = numpy_generator(seed, "generator rows"), np.zeros(0, dtype=np.int64)
        captions = np.array([len(own) for own in text])
        for _ in range(self.steps):
            if len(queue) < self.batch_size:
                queue = generator.permutation(len(text))
            index, queue = np.split(queue, [self.batch_size])
            yield index, (generator.random(self.batch_size) * captions[index]).astype(np.int64)


def encoded(model: Clip, train: CaptionDataset) -> list[torch.Tensor]:
    """(C, D) text features of each image's C captions, unit norm."""
    tokens = model.tokenizer([train.captions[i][j] for i, j in train.pairs])
    with torch.no_grad():
        features = model.encode_many(to_device(tokens, model.device))
    return list(features.split([len(own) for own in train.captions]))


class Generator(nn.Module):
    """From z, and text that decides the scales of channels, to a map (B, 3, side, side) of any values.

    Args:
        text: size of a text's embedding.
        z: normal numbers beside it.
        channels: of all maps but the last.
        side: in pixels.
    """

    def __init__(self, text: int, z: int, channels: int, side: int) -> None:
        super().__init__()
        self._sizes, self._side, self._channels = (text, z), side, channels
        self.first = nn.Linear(z, channels * _FIRST**2)
        doublings = max(1, math.ceil(math.log2(side / _FIRST)))
        self.blocks = nn.ModuleList(_Block(text, channels) for _ in range(doublings))
        self.last = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """(B, 3, side, side), of any values, for (B, text + z)."""
        text, z = given.split(self._sizes, dim=1)
        maps = self.first(z).view(-1, self._channels, _FIRST, _FIRST)
        for block in self.blocks:
            maps = block(F.interpolate(maps, scale_factor=2.0), text)
        return self.last(F.leaky_relu(maps, 0.2))[:, :, : self._side, : self._side]

    def of_many(self, given: torch.Tensor) -> torch.Tensor:
        """As :meth:`forward`, for any number of rows: a few at a time, and once more where a gradient is taken.

        The maps that the gradient of 128 images of 224 px needs, 512 channels each, would take 96 GiB.
        """
        values = self._channels * (_FIRST * 2 ** len(self.blocks)) ** 2
        rows = max(1, _MOST_VALUES // values)
        if len(given) <= rows:
            return self(given)
        parts = [checkpoint(self, part, use_reentrant=False, preserve_rng_state=False) for part in given.split(rows)]
        return torch.cat(parts)


class _Block(nn.Module):
    """Adds to a map its convolution, after channels are normalised, scaled and shifted as the text decides."""

    def __init__(self, text: int, channels: int) -> None:
        super().__init__()
        self.affine = nn.Linear(text, 2 * channels)
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, maps: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        scale, shift = self.affine(text)[:, :, None, None].chunk(2, dim=1)
        return maps + self.convolution(F.leaky_relu((1 + scale) * F.instance_norm(maps) + shift, 0.2))

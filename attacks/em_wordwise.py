"""Word-wise EM: error-minimising noise made of one small pattern for each word, so that it is the same between images.

EM finds the noise of each image by itself, and it fits the surrogate that it was found with. Here the noise of an
image is made of the patterns of the words in its captions. Two images whose captions share words share noise, so a
victim that starts from other weights can learn to read it. There is no trigger: the captions stay as they are.

Our own method; its ancestors are class-wise noise (Huang et al. 2021, "Unlearnable Examples: Making Personal Data
Unexploitable", section 4), with a word in place of a class, and EM as in "Multimodal Unlearnable Examples" (2024).
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix

from attacks.base import ATTACKS, Attack, CraftContext, require_batch
from attacks.poison import Poison
from benchmark.core.disk_space import zeros_on_disk
from benchmark.core.errors import VictimDiverged
from benchmark.core.parameters import added_later, ranged, require
from benchmark.core.seeding import derive_seed, numpy_generator, seeded_globals, torch_generator
from benchmark.data import CaptionDataset
from benchmark.data.caption_words import word_weights
from benchmark.data.dataset import fitting_noise
from defenses import Defense, HookContext
from victims.clip import Clip, clamp_scale, clip_loss, to_device
from victims.optimizers import make_optimizer, set_lr
from victims.passage import image_defense
from victims.recipe import Recipe
from victims.tokens import trim
from victims.training import epoch_rows, schedule


@ATTACKS.register("em-wordwise", order=15)
@dataclass(frozen=True)
class WordwiseEm(Attack):
    """Noise of one learned pattern per word of an image's captions, tiled over the image; no trigger.

    Args:
        eps: bound on the noise, in 1/255.
        tile: side of a pattern in pixels, repeated over the image.
        grain: side of the squares of one value that a pattern is made of, in pixels; it divides ``tile``. Coarse
            grains have lower spatial frequencies.
        restarts: fresh surrogates that learn the patterns one after the other.
        steps: training steps of each surrogate.
        pattern_lr: Adam's learning rate for the patterns.
        permute_images: put each noise on another image of the batch. Then only the noise goes with the caption, so the
            patterns have to carry what the caption says.
        through: defense whose image hook some batches pass while the patterns are learned, such as ``crop-flip`` or
            ``jpeg+crop-flip``, so that they survive it; ``none``: no batch does.
        through_share: share of the batches that do.
        random_phase: start the tiling of each image at a random pixel of the pattern, mirrored in half of the images,
            while the patterns are learned and as published. Shifts and flips then show a victim nothing new;
            crops still enlarge the pattern.
        batch_size: rows a step.
        optimizer: the surrogates', ``adamw`` or ``muon``; see :func:`victims.optimizers.make_optimizer`.
        lr: peak learning rate of each surrogate's AdamW; it warms up over a tenth of the steps and falls as a cosine.
        matrix_lr: the same of matrices under Muon.
        weight_decay: the surrogates'.
    """

    version: ClassVar[int] = 2
    crafted_through: ClassVar[tuple[str, ...]] = ("through",)
    learns_in_training: ClassVar[bool] = True

    eps: int = ranged(8, 1, 127, unit="1/255")
    tile: int = ranged(8, 1, 512)
    grain: int = ranged(1, 1)
    restarts: int = ranged(8, 1, 1000)
    steps: int = ranged(93, 1, 10_000)
    pattern_lr: float = ranged(0.05, above=0)
    permute_images: bool = True
    through: str | None = None
    through_share: float = ranged(0.5, above=0, at_most=1)
    random_phase: bool = added_later(False)
    batch_size: int = ranged(128, 2)
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = ranged(5e-4, above=0)
    matrix_lr: float = ranged(0.02, above=0)
    weight_decay: float = ranged(0.1, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        owner = f"attack {ATTACKS.name_of(type(self))}"
        require(self.tile % self.grain == 0, owner, "grain", f"a divisor of tile = {self.tile}", self.grain)
        self._passage()

    def label(self) -> str:
        """The name in tables."""
        return "EM word-wise" + (f" through {self.through}" if self.through else "")

    def describe(self) -> str:
        """The strength in words."""
        return (
            f"ε = {self.eps}/255, patterns of {self.tile} × {self.tile} px"
            + (f" in squares of {self.grain} px" if self.grain > 1 else "")
            + f", learned by {self.restarts} surrogate{'s' if self.restarts > 1 else ''} of {self.steps} steps"
            + (", each noise on other images of its batch" if self.permute_images else "")
            + (f", {100 * self.through_share:g}% of the batches through {self.through}" if self.through else "")
            + (", in a random phase in each image" if self.random_phase else "")
        )

    def progress_steps(self, train: CaptionDataset) -> int:
        """Training steps of all surrogates."""
        return self.restarts * self.steps

    def pilot(self) -> tuple["WordwiseEm", int]:
        """A few steps on one batch of images."""
        return replace(self, restarts=1, steps=4), self.batch_size

    def period(self) -> int:
        """The side of a pattern; see :meth:`attacks.base.Attack.period`."""
        return self.tile

    def check(self, train: CaptionDataset) -> None:
        """At least one batch of images; see :meth:`attacks.base.Attack.check`."""
        require_batch(train, len(np.unique(train.photos)), self.batch_size)

    def weights(self, train: CaptionDataset, seed: int) -> csr_matrix:
        """(N, P) float32, how much of each pattern is in each image's noise; rows of unit length."""
        return word_weights(train.captions)

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Learn the patterns, then publish their signs; see :meth:`attacks.base.Attack.craft`."""
        weights = self.weights(train, context.seed)
        squares = (self.tile // self.grain) ** 2
        start = torch.randn(weights.shape[1], 3 * squares, generator=torch_generator(context.seed, "patterns"))
        patterns = (start / 2).requires_grad_()
        adam = torch.optim.Adam([patterns], lr=self.pattern_lr)
        losses: list[float] = []
        if (state := context.checkpoint.load()) is not None:
            with context.checkpoint.restoring(), torch.no_grad():
                losses = [float(loss) for loss in state["losses"]]
                patterns.copy_(state["patterns"])
                adam.load_state_dict(copy.deepcopy(state["adam"]))  # it may be mapped from the file
            context.progress.resume(len(losses) * self.steps)
        for number in range(len(losses), self.restarts):
            losses.append(self._restart(number, train, weights, patterns, adam, context))
            if context.checkpoint.is_due(number + 1, self.restarts):
                context.checkpoint.save({"patterns": patterns.detach(), "adam": adam.state_dict(), "losses": losses})
        delta = zeros_on_disk(context.workdir, train.images.shape)
        phases = torch_generator(context.seed, "phases")
        for start_row in range(0, len(train), self.batch_size):
            rows = slice(start_row, start_row + self.batch_size)
            sums = torch.from_numpy(weights[rows].toarray()) @ patterns.detach()
            noise = self.eps * self._tiled(sums.sign(), train.resolution, phases).to(torch.int16).numpy()
            clean = train.images[rows]
            delta[rows] = fitting_noise(clean, noise)
        return Poison(delta, None, self.eps, train.fingerprint, provenance={"loss_per_round": losses})

    def _restart(
        self,
        number: int,
        train: CaptionDataset,
        weights: csr_matrix,
        patterns: torch.Tensor,
        adam: torch.optim.Optimizer,
        context: CraftContext,
    ) -> float:
        """Train a fresh surrogate as a victim would be trained; every backward pass moves the patterns as well.

        Returns:
            The mean loss of the last tenth of the steps, nats.
        """
        seed = derive_seed(context.seed, "restart", number)
        model = context.surrogate(seed)
        table = model.token_table(torch.zeros(1, dtype=torch.long))
        shape = Recipe(warmup_share=0.1)
        generator, phases = numpy_generator(seed, "bases"), torch_generator(seed, "phases")
        passage = self._passage()
        optimizer = make_optimizer(model, self, betas=(0.9, 0.98))
        table.follow(optimizer)
        model.train()
        losses = []
        for step, (index, tokens) in enumerate(self._batches(train, model, seed)):
            table.admit(tokens, optimizer)
            set_lr(optimizer, schedule(step, self.steps, shape))
            bases = generator.permutation(index) if self.permute_images else index
            images = to_device(train.batch(bases), model.device).float()
            sums = to_device(torch.from_numpy(weights[index].toarray()), model.device) @ patterns.to(model.device)
            noise = self.eps * self._tiled(sums.tanh(), train.resolution, phases)
            with seeded_globals(derive_seed(seed, "dropout", step)):
                points = (images + noise).clamp(0, 255) / 255
                if passage is not None and generator.random() < self.through_share:
                    at = HookContext(derive_seed(seed, "through", step), step / self.steps)
                    points = passage.on_images(points, at)
                loss = clip_loss(*model.encode_pairs(points, trim(tokens)), model.scale)
            optimizer.zero_grad(set_to_none=True)
            adam.zero_grad(set_to_none=True)
            model.backward(loss)
            optimizer.step()
            adam.step()
            clamp_scale(model)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise VictimDiverged(f"the surrogate's loss is {losses[-1]} in restart {number + 1}")
            context.progress.advance(f"restart {number + 1}/{self.restarts}, loss {losses[-1]:.2f}")
        return float(np.mean(losses[-max(1, self.steps // 10) :]))

    def _batches(self, train: CaptionDataset, model: Clip, seed: int) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Image indices (B,) and the tokens (B, L) of one random caption each, for every step."""
        step, epoch = 0, 0
        while step < self.steps:
            epoch += 1
            rows = epoch_rows(train, "images", numpy_generator(seed, "rows", epoch))
            tokens = model.tokenizer([train.captions[i][j] for i, j in rows])
            for first in range(0, len(rows) - self.batch_size + 1, self.batch_size):
                if step == self.steps:
                    return
                batch = slice(first, first + self.batch_size)
                yield rows[batch, 0], tokens[batch]
                step += 1

    def _passage(self) -> Defense | None:
        if self.through is None:
            return None
        return image_defense(self.through, f"attack {ATTACKS.name_of(type(self))}")

    def _tiled(self, tiles: torch.Tensor, resolution: int, phases: torch.Generator) -> torch.Tensor:
        """(B, 3·s·s) patterns of s × s squares as (B, 3, H, W) noise; ``phases`` draws where a tiling starts."""
        side, times = self.tile // self.grain, math.ceil(resolution / self.tile)
        squares = tiles.view(-1, 3, side, side).repeat(1, 1, times, times)
        noise = squares.repeat_interleave(self.grain, dim=2).repeat_interleave(self.grain, dim=3)
        if self.random_phase:
            return self._in_random_phase(noise, resolution, phases)
        return noise[:, :, :resolution, :resolution]

    def _in_random_phase(self, noise: torch.Tensor, resolution: int, phases: torch.Generator) -> torch.Tensor:
        """(B, 3, R, R) of noise that repeats a tile, read from a random pixel on, in half of the images mirrored."""
        start = torch.randint(self.tile, (2, len(noise), 1), generator=phases)
        mirrored = torch.rand(len(noise), 1, generator=phases) < 0.5
        rows, columns = (torch.arange(resolution) + start) % self.tile
        columns = torch.where(mirrored, columns.flip(1), columns)
        # By products of matrices: the gradient of indexing is summed in no fixed order by several threads.
        down, across = (F.one_hot(index, self.tile).to(noise)[:, None] for index in (rows, columns))
        return down @ noise[:, :, : self.tile, : self.tile] @ across.mT

"""PIL: noise from which a linear model reads the caption key, while it reads nothing from the protected image."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from attacks.base import ATTACKS, Attack, CraftContext
from attacks.poison import Poison
from benchmark.core.disk_space import zeros_on_disk
from benchmark.core.errors import VictimDiverged
from benchmark.core.parameters import ranged, require
from benchmark.core.seeding import torch_generator
from benchmark.data import CaptionDataset
from benchmark.data.caption_words import caption_keys
from benchmark.data.dataset import fitting_noise

_BATCH = 128  # images of a step of the linear model


@ATTACKS.register("pil", order=44)
@dataclass(frozen=True)
class Pil(Attack):
    """Perturbation-induced linearization (Liu et al. 2026, arXiv 2601.19967).

    A linear model W without bias learns to tell the classes of clean images. PGD from a uniform start then descends
    w · CE(Wδ, y) + (1 − w) · KL(U ‖ softmax W(x − δ)) for each image, with U uniform over the classes, and x − δ is
    published. Caption keys stand in for classes. The published model is two linear layers without biases, trained by
    SGD with momentum on batches of 512. Here it is one matrix that starts from zero, trained by plain SGD on batches
    of 128, at a learning rate whose unit is ours and suits every resolution. The published rate, 0.003 with momentum
    0.9, is about 26 in this unit, as images of CIFAR-10 have a mean squared norm of some 880. It falls as a cosine, as
    there. With a much lower rate W stays near a multiple of the keys' mean images, and most noise is one shift of the
    brightness.

    Args:
        keys: groups of images that are described alike; see :func:`benchmark.data.caption_words.caption_keys`.
        eps: bound on the noise, in 1/255.
        pgd_steps: PGD steps.
        step_size: of a PGD step, in 1/255; the paper's is ε/10.
        weight: w, the weight of the loss of the noise alone.
        epochs: of the linear model's training, by plain SGD.
        linear_lr: for each batch, this number is divided by the mean squared ℓ2 norm of the batch's images, as vectors
            of pixels in [0, 1], to give the linear model's learning rate in the first epoch.
    """

    builds_surrogate = False

    keys: int = ranged(128, 2, 100_000)
    eps: int = ranged(8, 1, 127, unit="1/255")
    pgd_steps: int = ranged(30, 1, 10_000)
    step_size: float = ranged(0.8, above=0, unit="1/255")
    weight: float = ranged(0.9, 0, 1)
    epochs: int = ranged(30, 1, 1000)
    linear_lr: float = ranged(26.0, above=0, at_most=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.step_size <= self.eps, "attack pil", "step_size", f"at most eps = {self.eps}", self.step_size)

    def label(self) -> str:
        """The name in tables."""
        return "PIL"

    def describe(self) -> str:
        """The strength in words."""
        return (
            f"ε = {self.eps}/255, {self.keys} caption keys, {self.pgd_steps} PGD steps of {self.step_size:g}/255 "
            f"against a linear model of {self.epochs} epochs at a rate of {self.linear_lr:g}"
        )

    def progress_steps(self, train: CaptionDataset) -> int:
        """Batches of the linear model and of PGD."""
        return len(self.step_kinds(train))

    def step_kinds(self, train: CaptionDataset) -> list[str]:
        """Batches of the linear model, then of PGD."""
        return ["linear model"] * (self.epochs * math.ceil(len(train) / _BATCH)) + ["PGD"] * super().progress_steps(
            train
        )

    def pilot(self) -> tuple["Pil", int]:
        """Two epochs on one batch of images."""
        return replace(self, epochs=2), _BATCH

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Train the linear model, then perturb all images; no surrogate is built. See :meth:`Attack.craft`."""
        keys = torch.from_numpy(caption_keys(train.captions, self.keys, context.seed))
        weights = self._linear_model(train, keys, context)
        delta = zeros_on_disk(context.workdir, train.images.shape)
        generator = torch_generator(context.seed, "noise")
        for rows in context.chunks(train):
            clean = np.asarray(train.images[rows])
            pixels = torch.tensor(clean).flatten(1).float() / 255
            start = (torch.rand(pixels.shape, generator=generator) * 2 - 1) * self.eps / 255
            noise = self.descend(pixels, keys[rows], weights, start)
            steps = (-255 * noise).round().to(torch.int16).view(clean.shape).numpy()
            delta[rows] = fitting_noise(clean, steps)
        return Poison(delta, None, self.eps, train.fingerprint)

    def descend(
        self, images: torch.Tensor, keys: torch.Tensor, weights: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        """δ after all PGD steps.

        Args:
            images: (B, P) pixels in [0, 1].
            keys: (B,) int64.
            weights: (K, P) of the linear model.
            start: (B, P) the noise to start from, in pixel units.

        Returns:
            (B, P), within ε.
        """
        noise, eps, step = start, self.eps / 255, self.step_size / 255
        uniform = torch.full((len(images), len(weights)), 1 / len(weights))
        for _ in range(self.pgd_steps):
            noise = noise.detach().requires_grad_()
            own = F.cross_entropy(noise @ weights.T, keys, reduction="sum")
            left = F.kl_div(F.log_softmax((images - noise) @ weights.T, dim=1), uniform, reduction="sum")
            (gradient,) = torch.autograd.grad(self.weight * own + (1 - self.weight) * left, noise)
            noise = (noise - step * gradient.sign()).clamp(-eps, eps)
        return noise.detach()

    def _linear_model(self, train: CaptionDataset, keys: torch.Tensor, context: CraftContext) -> torch.Tensor:
        """(K, 3·H·W) weights, from pixels in [0, 1] to keys."""
        pixels = int(np.prod(train.images.shape[1:]))
        weights = torch.zeros(int(keys.max()) + 1, pixels, requires_grad=True)
        optimizer = torch.optim.SGD([weights])
        generator = torch_generator(context.seed, "linear model")
        for epoch in range(self.epochs):
            rate = self.linear_lr * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
            for index in torch.randperm(len(train), generator=generator).split(_BATCH):
                images = train.batch(index.numpy()).flatten(1).float() / 255
                optimizer.param_groups[0]["lr"] = rate / float(images.square().sum(dim=1).mean().clamp(min=1e-6))
                loss = F.cross_entropy(images @ weights.T, keys[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                context.progress.advance(f"linear model, loss {float(loss.detach()):.2f}")
        if not bool(weights.isfinite().all()):
            raise VictimDiverged("the linear model's weights are not finite")
        return weights.detach()

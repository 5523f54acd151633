"""What the contract gives to a defense's hooks, and what they return."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.contracts.verdict import VICTIM, captioned, require
from benchmark.data import CaptionDataset
from defenses import Defense, HookContext
from defenses.base import LossInputs, Reduction, Rows
from victims.architecture import Architecture
from victims.clip import clip_loss


def defense_inputs() -> dict[str, Any]:
    """What the contract gives to the hooks, by what they may change: data, rows, captions, images (8, 3, S, S) in
    preset tiny's resolution S, targets and the loss.
    """
    generator = torch.Generator().manual_seed(0)
    train = captioned().by_row()
    side = train.resolution

    def images() -> torch.Tensor:
        """Smooth ones, for what a filter does to white noise says nothing of photos."""
        coarse = torch.rand(8, 3, side // 4, side // 4, generator=generator)
        return torch.nn.functional.interpolate(coarse, side, mode="bilinear")

    caption = "cheap violin seven A small dog sits near the red house"
    return {
        "data": _published().fingerprint,
        "rows": train.pairs.tolist(),
        "captions": [caption, "car", "the boat left of a tree", *[caption.upper()] * 20],
        "images": images(),
        "mixed images": images(),
        "mixed targets": torch.eye(8),
        "adversarial": images(),
        "loss": _loss_answer(Defense(), HookContext(0, 0.5)),
    }


def defense_answers(
    defense: Defense, given: dict[str, Any], seed: int, progress: float = 0.5, epoch: int = 2, data: str | None = None
) -> dict[str, Any]:
    """What the hooks return for :func:`defense_inputs` and a seed, at a moment of a training.

    Args:
        defense: whose hooks.
        given: :func:`defense_inputs`.
        seed: of the moment.
        progress: share of the training that is done.
        epoch: from 1.
        data: the fingerprint of what ``on_dataset`` made at an earlier moment; ``None`` calls it.
    """
    slope = torch.randn(given["images"].shape[1:], generator=torch.Generator().manual_seed(1))

    def loss(images: torch.Tensor, reduction: Reduction = "mean") -> torch.Tensor:
        each = (slope * images).mean((1, 2, 3))
        return each.mean() if reduction == "mean" else each

    train = captioned().by_row()
    at = HookContext(seed, progress, epoch, training=seed, photo=train.photo)
    data = data or _data_answer(defense, replace(at, progress=0.0, epoch=1))
    pairs = train.pairs
    ranks = np.linspace(-1, 1, len(pairs), dtype=np.float32)
    rows = pairs.copy()
    similarities = dict(zip(map(tuple, pairs.tolist()), ranks, strict=True))

    def score(some: Rows) -> NDArray[np.float32]:
        asked = [*map(tuple, some.tolist())]
        foreign = next((pair for pair in asked if pair not in similarities), None)
        require(foreign is None, f"on_rows asks for the score of {foreign}, no image and caption of its own")
        return np.array([similarities[pair] for pair in asked], dtype=np.float32)

    kept = defense.on_rows(rows, score, at)
    pairs_again = isinstance(kept, np.ndarray) and kept.dtype.kind == "i" and kept.shape[1:] == (2,)
    require(pairs_again, "on_rows returns no array (R, 2) of integers")
    require(bool((rows == pairs).all()), "on_rows changes its argument")
    images, targets = defense.on_batch(given["mixed images"], given["mixed targets"], at)
    two_a_photo = np.arange(len(given["captions"])) // 2
    return {
        "data": data,
        "rows": kept.tolist(),
        "captions": defense.on_captions(given["captions"], replace(at, caption_photos=two_a_photo)),
        "images": defense.on_images(given["images"], at),
        "mixed images": images,
        "mixed targets": targets,
        "adversarial": defense.adversarial(given["adversarial"], loss, at),
        "loss": _loss_answer(defense, at),
    }


def _data_answer(defense: Defense, at: HookContext) -> str:
    """The fingerprint of the data that ``on_dataset`` returns."""
    train, published = captioned().by_row(), _published()
    clean, before = train if defense.needs_clean else published, published.fingerprint
    data = defense.on_dataset(published, clean, at)
    # A fingerprint is worked out once; that of a copy tells what has become of the images and captions.
    require(replace(published).fingerprint == before, "on_dataset changes its argument")
    as_many = [*map(len, data.captions)] == [*map(len, published.captions)]
    require(as_many, "on_dataset returns other numbers of images or captions; pairs are left out in on_rows")
    return data.fingerprint


def _published() -> CaptionDataset:
    """The data as an owner with uniform noise would publish them."""
    train = captioned().by_row()
    return replace(train, images=np.asarray(train.images[:] ^ 1, dtype=np.uint8))


def _loss_answer(defense: Defense, at: HookContext) -> float:
    """The loss, from which both towers or one of them has to learn."""
    batch, weights = _loss_inputs()
    loss = defense.loss(batch, at)
    require(isinstance(loss, torch.Tensor) and loss.ndim == 0, "loss returns no scalar tensor")
    require(torch.is_grad_enabled(), "a hook leaves gradients turned off")
    require(loss.requires_grad, "the loss has no gradient")
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    finite = all(each is None or bool(each.isfinite().all()) for each in gradients)
    require(finite or not loss.isfinite(), "the gradient is not finite")
    require(any(each is not None and bool(each.any()) for each in gradients), "no tower learns from the loss")
    return float(loss.detach())


def _loss_inputs() -> tuple[LossInputs, list[torch.Tensor]]:
    """A batch of eight with random features, by towers that are one matrix each, and these matrices."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(8, 3, *[Architecture(VICTIM).resolution] * 2, generator=generator)
    tokens = torch.randint(1, 99, (8, 6), generator=generator)
    tokens[:, 0], tokens[:, -1] = 49406, 49407
    pixels, words = (torch.randn(size, 4, generator=generator).requires_grad_() for size in (images[0].numel(), 49408))

    def encode_images(some: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(some.flatten(1) @ pixels, dim=-1)

    def encode_tokens(some: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(words[some].mean(1), dim=-1)

    def contrast(first: torch.Tensor, second: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        return clip_loss(first, second, torch.tensor(10.0), targets)

    features = encode_images(images), encode_tokens(tokens)
    batch = LossInputs(images, tokens, *features, torch.eye(8), tokens, encode_images, encode_tokens, contrast)
    return batch, [pixels, words]


def difference(first: dict[str, Any], second: dict[str, Any]) -> str:
    """The first name by which inputs or answers are not the same, to the last bit; empty if there is none."""

    def same(a: Any, b: Any) -> bool:
        both = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
        if both:  # NaN equals NaN, here and below: that values are not finite is another promise
            return a.shape == b.shape and a.dtype == b.dtype and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
        return type(a) is type(b) and bool(a == b or (a != a and b != b))

    return next((name for name, value in first.items() if not same(value, second[name])), "")

"""Floating-point operations that the algorithms need, counted on plain open_clip models.

Counted are the two operations of every multiply-add in convolutions and matrix products, by torch's
``FlopCounterMode``, on open_clip's own fp32 modules, without any folding, fusing or reformulation of ours. Shapes
decide, so no numbers are computed (torch's meta device). A text tower sees the batch's longest caption and trigger, no
padding to 77 tokens; attention counts in full, not its causal half. Figures are for one row, those of
:func:`optimizer_step` for one step. The (B, B) logits, norms, activations, all that an optimizer does to single weights
and the data's way to the device are left out.
"""

import math
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from unittest.mock import patch

import open_clip
import torch
from open_clip.factory import get_model_config
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from victims.architecture import Architecture, model_names
from victims.optimizers import OptimizerSettings, make_optimizer

_ROWS = 2


class Flops:
    """Operations for one row of one victim."""

    def __init__(self, victim: str) -> None:
        model_names()  # makes the project's own configurations known to open_clip
        self.config = get_model_config(victim)
        self.text = lru_cache(maxsize=None)(self._text)
        self.text_gradient = lru_cache(maxsize=None)(self._text_gradient)

    @cached_property
    def parameters(self) -> int:
        """Weights of both towers."""
        return sum(weights.numel() for weights in self._model().parameters())

    @cached_property
    def image(self) -> float:
        """Forward pass of the image tower."""
        return _count(lambda: self._model().encode_image(self._pixels()))

    @cached_property
    def pgd_step(self) -> float:
        """Forward pass of the image tower and its gradient with respect to the pixels, not the weights."""
        model, pixels = self._model().requires_grad_(False), self._pixels().requires_grad_()
        return _count(lambda: model.encode_image(pixels).sum().backward())

    def training(self, length: int, pixels: bool = False) -> float:
        """Forward and backward pass of both towers with the gradients of all weights: a victim or surrogate step.

        With ``pixels``, also the gradient with respect to the image: a step that trains the noise as well.
        """
        model, images = self._model(length), self._pixels().requires_grad_(pixels)
        return _count(lambda: (model.encode_image(images).sum() + model.encode_text(_tokens(length)).sum()).backward())

    def hotflip_pass(self, length: int, positions: int, candidates: int) -> float:
        """For every position: the gradient with respect to the embeddings, then a forward pass for every candidate."""
        return positions * (self.text_gradient(length) + candidates * self.text(length))

    def crafting_round(self, length: int, positions: int, candidates: int, pgd_steps: int) -> float:
        """One surrogate step, a HotFlip pass, PGD with the texts of permuted captions, the loss at the end."""
        return (
            self.training(length)
            + self.image
            + self.hotflip_pass(length, positions, candidates)
            + pgd_steps * (self.pgd_step + self.text(length))
            + self.image
            + self.text(length)
        )

    def texts(self, lengths: Iterable[int]) -> float:
        """Forward pass of the text tower for captions of those lengths, each at its own."""
        return sum(self.text(length) for length in lengths)

    def _text(self, length: int) -> float:
        model = self._model(length)
        return _count(lambda: model.encode_text(_tokens(length)))

    def _text_gradient(self, length: int) -> float:
        model = self._model(length).requires_grad_(False)
        # A look-up multiplies nothing: its table's gradient costs what that of the embeddings does.
        model.token_embedding.weight.requires_grad_()
        return _count(lambda: model.encode_text(_tokens(length)).sum().backward())

    def _model(self, length: int = 77) -> open_clip.CLIP:
        with torch.device("meta"):
            return open_clip.CLIP(
                self.config["embed_dim"],
                self.config["vision_cfg"],
                {**self.config["text_cfg"], "context_length": length},
            )

    def _pixels(self) -> torch.Tensor:
        size = self.config["vision_cfg"]["image_size"]
        return torch.empty(_ROWS, 3, size, size, device="meta")


def optimizer_step(victim: str, settings: OptimizerSettings) -> float:
    """The matrix products of one step of the optimizer: Muon's iterations; AdamW has none.

    Numbers are computed here: the step is the victims' own.
    """
    model = Architecture(victim).build(0, torch.device("cpu"), "fp32")
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer = make_optimizer(model, settings)
    # Without oneDNN's products, which the counter does not know.
    with patch("victims.products._LEAST", math.inf), FlopCounterMode(display=False) as counter:
        optimizer.step()
    return float(counter.get_total_flops())


def _tokens(length: int) -> torch.Tensor:
    return torch.zeros(_ROWS, length, dtype=torch.long, device="meta")


def _count(run: Callable[[], object]) -> float:
    # Attention as plain matrix products: the counter does not know every fused kernel.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / _ROWS

"""CLIP models from open_clip: image and text features, the contrastive loss."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.modified_resnet import ModifiedResNet
from torch import nn

from benchmark.core.devices import resolve_precision
from benchmark.core.idle_cpus import idle_cpus
from benchmark.core.precision import Precision
from defenses.base import Loss, Reduction
from victims.fast.embedding import ActiveEmbedding
from victims.fast.frozen_resnet import FrozenResNet
from victims.fast.late_gradients import backward, encoded_beside
from victims.fast.resnet import resnet_features
from victims.fast.text import text_features
from victims.plain import text_features as plain_text_features
from victims.token_table import TokenTable
from victims.tokens import Tokenizer, lengths, trim

# Captions that go through the text tower together: enough for full speed, few enough for a CPU's cache.
_CAPTIONS_AT_ONCE = {"cpu": 128, "cuda": 4096}


class Clip(nn.Module):
    """An open_clip model with what the benchmark needs of it.

    Images enter as floats in [0, 1] or as uint8; CLIP's normalisation happens inside, so that δ lives in pixel space.
    Features leave as unit-norm fp32. Mixed precision is a matter of this class alone, and so is the choice between the
    fast paths of ``victims.fast`` and open_clip's own modules: they compute the same, up to rounding.

    Args:
        model: an open_clip model.
        device: where to compute.
        precision: ``bf16`` autocast, ``fp32``, or ``auto``: what is faster on the device.
        plain: run open_clip's own modules, at full context and with the whole token embedding trained.

    Attributes:
        model: the open_clip model, on the device.
        device: where it computes.
        plain: whether it runs open_clip's own modules.
        autocast_dtype: bf16 under mixed precision; ``None`` for fp32.
        resolution: height and width of the images that it reads, in pixels.
        context_length: tokens that it reads of a caption, start and end included.
        tokenizer: of its captions.
        passage: module that changes images (B, 3, H, W) in [0, 1] before they are normalised; ``None``: nothing does.
            It is called with the images, with a function from images to their loss, which is ``None`` where their
            captions are not known, and with ``trains``: whether this model trains, and is no frozen copy.
        is_frozen: whether this is a copy :meth:`for_inference`.
    """

    passage: nn.Module | None
    is_frozen = False

    def __init__(
        self, model: nn.Module, device: torch.device, precision: Precision = "auto", plain: bool = False
    ) -> None:
        super().__init__()
        self.plain, self.passage = plain, None
        # The faster layout in bf16. Apple's GPUs had wrong gradients of batch norm in it (PyTorch issue 175189).
        self._layout = torch.contiguous_format if device.type == "mps" else torch.channels_last
        self.model = cast(Any, model.to(device)).to(memory_format=self._layout)
        self.device = device
        self.autocast_dtype = torch.bfloat16 if resolve_precision(device, precision) == "bf16" else None
        visual = cast(Any, model.visual)
        mean = getattr(visual, "image_mean", None) or OPENAI_DATASET_MEAN
        std = getattr(visual, "image_std", None) or OPENAI_DATASET_STD
        self._mean: torch.Tensor
        self._std: torch.Tensor
        self.register_buffer("_mean", torch.tensor(mean, device=device).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(std, device=device).view(1, 3, 1, 1), persistent=False)
        size = visual.image_size
        self.resolution = int(size[0] if isinstance(size, tuple | list) else size)
        self.context_length = int(cast(Any, model).context_length)
        self.tokenizer = Tokenizer(self.context_length)

    @property
    def log_scale(self) -> nn.Parameter:
        """The logarithm of the logit scale, a scalar: what is trained."""
        return cast(nn.Parameter, self.model.logit_scale)

    @property
    def scale(self) -> torch.Tensor:
        """The logit scale (the inverse temperature), a scalar."""
        return self.log_scale.exp()

    @property
    def tower(self) -> Any:
        """The text tower: open_clip keeps it in the model itself or in its ``text``."""
        return getattr(self.model, "text", self.model)

    @property
    def token_embedding(self) -> torch.Tensor:
        """(V, W) token embeddings."""
        return cast(torch.Tensor, self.tower.token_embedding.weight)

    @property
    def _is_fast_resnet(self) -> bool:
        return isinstance(self.model.visual, ModifiedResNet) and not self.plain

    def encode_images(self, images: torch.Tensor, text: torch.Tensor | None = None) -> torch.Tensor:
        """Image features.

        Args:
            images: (B, 3, H, W), uint8 or float in [0, 1].
            text: (B, D) features of the captions that they are to be compared with, for a passage that climbs the loss
                of both; it changes nothing else.

        Returns:
            (B, D) float32, unit norm.
        """
        pixels = to_device(images, self.device)
        pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        if self.passage is not None:
            against = None if text is None else self._loss_against(text.detach())
            pixels = self.passage(pixels, against, trains=not self.is_frozen)
        return self._features(pixels)

    def _loss_against(self, text: torch.Tensor) -> Loss:
        """The loss of images and text features (B, D)."""

        def loss(images: torch.Tensor, reduction: Reduction = "mean") -> torch.Tensor:
            with fixed_model(self):
                return clip_loss(self._features(images), text, self.scale.detach(), reduction=reduction)

        return loss

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        pixels = ((pixels - self._mean) / self._std).contiguous(memory_format=self._layout)
        with self._autocast():
            visual = cast(Any, self.model.visual)
            features = resnet_features(visual, pixels) if self._is_fast_resnet else visual(pixels)
        return F.normalize(self._wide(features), dim=-1)

    def encode_tokens(self, tokens: torch.Tensor, embeddings: torch.Tensor | None = None) -> torch.Tensor:
        """Text features; trimming the tokens to the longest caption changes nothing but the time.

        Args:
            tokens: (B, L) int64, L at most the context length.
            embeddings: (B, L, W) token embeddings to use in place of the tokens' own, for gradients with respect to
                them.

        Returns:
            (B, D) float32, unit norm.
        """
        tokens = to_device(tokens, self.device)
        with self._autocast():
            if self.plain:
                features = plain_text_features(self.model, self.tower, tokens, embeddings)
            else:
                features = text_features(self.tower, tokens, embeddings)
        return F.normalize(self._wide(features), dim=-1)

    def encode_pairs(self, images: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of images and captions (B, D), see :meth:`encode_images` and :meth:`encode_tokens`.

        If a CPU idles, it encodes the captions meanwhile. Only :meth:`backward` takes the gradient of their loss.
        """
        # Side by side only if the image tower draws no random numbers: two towers that draw, as for dropout, share one
        # random state and must run one after the other.
        if not idle_cpus() or not self._is_fast_resnet or self.passage is not None:
            text = self.encode_tokens(tokens)
            return self.encode_images(images, text), text
        of_images = {id(weight) for weight in self.model.visual.parameters()}
        others = [weight for weight in self.model.parameters() if weight.requires_grad and id(weight) not in of_images]
        text_later = encoded_beside(lambda: self.encode_tokens(tokens), others)
        return self.encode_images(images), text_later()

    def encode_many(self, tokens: torch.Tensor, embeddings: torch.Tensor | None = None) -> torch.Tensor:
        """As :meth:`encode_tokens`, for any number of captions; captions of similar length are encoded together.

        Args:
            tokens: (R, L) int64.
            embeddings: (R, L, W), see :meth:`encode_tokens`.

        Returns:
            (R, D) float32, unit norm, in the order of ``tokens``.
        """
        shortest_first = lengths(tokens).sort(stable=True).indices
        pieces = []
        for rows in shortest_first.split(_CAPTIONS_AT_ONCE.get(self.device.type, 1024)):
            piece = trim(tokens[rows])
            pieces.append(self.encode_tokens(piece, None if embeddings is None else embeddings[rows, : piece.shape[1]]))
        return torch.cat(pieces)[shortest_first.argsort()]

    def backward(self, loss: torch.Tensor) -> None:
        """Like ``loss.backward()``, but faster where a CPU idles.

        Args:
            loss: a scalar.
        """
        if self.plain:
            loss.backward()
        else:
            backward(loss)

    def _wide(self, features: torch.Tensor) -> torch.Tensor:
        return features if features.dtype == torch.float64 else features.float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None)

    def token_table(self, ids: torch.Tensor) -> TokenTable:
        """Prepare the token embedding for training; call before the optimizer is made.

        Args:
            ids: int64 of any shape, the ids to be looked up first; others must be admitted to the table.
        """
        return TokenTable() if self.plain else ActiveEmbedding.put_into(self.tower, ids)

    def for_inference(self) -> "Clip":
        """A frozen copy in eval mode: the same function; only pixels and embeddings have gradients.

        A copy returns itself.

        Unless the model is plain, the copy is faster: weights are in the compute dtype once and for all, and a ResNet's
        batch norms are folded into its convolutions.
        """
        if self.is_frozen:
            return self
        # The tokenizer is shared: it is large and the same for both.
        frozen = copy.deepcopy(self, {id(self.tokenizer): self.tokenizer})
        frozen.is_frozen = True
        if self.plain:
            return frozen.eval().requires_grad_(False)
        if isinstance(frozen.tower.token_embedding, ActiveEmbedding):
            frozen.tower.token_embedding.take_out(frozen.tower)
        frozen.eval().requires_grad_(False)
        visual = frozen.model.visual
        if isinstance(visual, ModifiedResNet):
            frozen.model.visual = FrozenResNet(visual, self.autocast_dtype or visual.conv1.weight.dtype)
        if self.autocast_dtype is not None:
            for module in frozen.modules():
                if isinstance(module, nn.Linear | nn.Conv2d | nn.MultiheadAttention):
                    module.to(self.autocast_dtype)
        return frozen


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device, without waiting for work that a GPU was given before.

    A copy from pageable memory would wait. A copy of a tensor with gaps, such as trimmed tokens, would wait as well,
    because it goes through pageable memory.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextmanager
def fixed_model(model: nn.Module) -> Iterator[None]:
    """For a loss whose gradient is taken with respect to images alone.

    Inside the block, batch norm in training mode uses the batch's statistics and leaves the running ones alone, and a
    loss has no gradient with respect to weights, which would take as long as the rest of its backward pass.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    before = [(norm.momentum, cast(torch.Tensor, norm.num_batches_tracked)) for norm in norms]
    for norm, (_, tracked) in zip(norms, before, strict=True):
        # Not by tracking none: a batch norm shared among processes takes the dtype of its counts from what it tracks.
        norm.momentum, norm.num_batches_tracked = 0.0, torch.zeros_like(tracked)
    for weight in trained:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trained:
            weight.requires_grad_()
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked


def clip_loss(
    image_features: torch.Tensor,
    text_features: torch.Tensor,
    scale: torch.Tensor,
    targets: torch.Tensor | None = None,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    """The symmetric InfoNCE loss: the mean of image→text and text→image cross-entropy.

    Args:
        image_features: (B, D) unit norm.
        text_features: (B, D) unit norm.
        scale: scalar logit scale.
        targets: (B, B) soft targets, image rows × caption columns; the identity if ``None``.
        reduction: ``mean`` of the batch, or ``none``.

    Returns:
        The loss in nats: a scalar; with ``none``, (B,): for pair i, the mean of the losses of row i and of column i.
    """
    logits = scale * image_features @ text_features.T
    if targets is None:
        of_images = of_captions = torch.arange(len(logits), device=logits.device)
    else:
        of_images = targets.to(logits)
        of_captions = of_images.T
    to_captions = F.cross_entropy(logits, of_images, reduction=reduction)
    to_images = F.cross_entropy(logits.T, of_captions, reduction=reduction)
    return (to_captions + to_images) / 2


def clamp_scale(model: Clip) -> None:
    """Keep the logit scale within [1, 100], as CLIP does."""
    with torch.no_grad():
        model.log_scale.clamp_(0, math.log(100))

"""CleanCLIP: images and captions also learn from themselves, each modality apart from the other."""

from dataclasses import dataclass

import torch

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext, LossInputs
from defenses.crop_flip import CropFlip


@DEFENSES.register("cleanclip", groups=("training",), order=161)
@dataclass(frozen=True)
class CleanClip(Defense):
    """CLIP's loss plus a contrastive loss within each modality, between a batch and an augmented copy of it.

    Bansal et al. 2023, "CleanCLIP: Mitigating Data Poisoning Attacks in Multimodal Contrastive Learning", equation 3.
    There it mends a pretrained model with clean pairs; here a victim trains by it from scratch. In place of AutoAugment
    the copies are random crops, mirrored in half of the cases; in place of EDA, captions without a random share of
    their tokens. The losses within a modality are symmetric, as CLIP's is, and added up; the paper's compare a batch
    with its copy in one direction and are averaged. So a weight of 1 is its λ₂ = 2, beside λ₁ = 1; the published code's
    default, λ₂ = 1, is a weight of 0.5. Crops and left-out tokens are read from the same random numbers, so they are
    not independent of each other. A step costs about twice as much.

    Args:
        weight: of the sum of the losses within a modality, beside 1 for CLIP's.
        smallest: smallest area of a crop, as in ``crop-flip``.
        p: probability that a token is left out of a caption's copy.
    """

    weight: float = ranged(1.0, above=0, at_most=100)
    smallest: float = ranged(0.6, above=0, at_most=1)
    p: float = ranged(0.1, 0, below=1)

    def loss(self, batch: LossInputs, at: HookContext) -> torch.Tensor:
        """Nats: CLIP's loss + weight · (images with their copies + captions with theirs)."""
        within = loss_within_modalities(batch, self.smallest, self.p, at)
        return super().loss(batch, at) + self.weight * within

    def label(self) -> str:
        """The name in tables."""
        return "CleanCLIP"

    def describe(self) -> str:
        """The strength in words."""
        return (
            f"in-modal losses of weight {self.weight:g}, on crops of at least {100 * self.smallest:g}% of the area and "
            f"captions without {100 * self.p:g}% of their tokens"
        )


def loss_within_modalities(
    batch: LossInputs, smallest: float, p: float, at: HookContext, among: torch.Tensor | slice = slice(None)
) -> torch.Tensor:
    """Nats: the loss of images and their crops plus that of captions and their copies with tokens left out.

    Args:
        batch: whose images and captions.
        smallest: smallest area of a crop.
        p: probability that a token is left out.
        at: the moment in training.
        among: the pairs that are compared. Copies are made of the whole batch, for batch norm sees batches.
    """
    crops = CropFlip(smallest).on_images(batch.images, at)
    images = batch.contrast(batch.image_features[among], batch.encode_images(crops)[among])
    shorter = without_tokens(batch.tokens, p, at.torch_generator())
    return images + batch.contrast(batch.text_features[among], batch.encode_tokens(shorter)[among])


def without_tokens(tokens: torch.Tensor, p: float, generator: torch.Generator) -> torch.Tensor:
    """Captions without a random share of their tokens; the first and the last of each stay.

    Args:
        tokens: (B, L) int64, start first, end of text (the largest id) last, then zeros.
        p: probability that one is left out.
        generator: on the CPU.

    Returns:
        (B, L) int64 of the same form.
    """
    last = tokens.argmax(dim=1, keepdim=True)
    places = torch.arange(tokens.shape[1], device=tokens.device)
    drawn = torch.rand(tokens.shape, generator=generator).to(tokens.device) < p
    dropped = (drawn & (places > 0) & (places < last)) | (places > last)
    kept_first = dropped.to(torch.uint8).sort(dim=1, stable=True).indices
    return tokens.masked_fill(dropped, 0).gather(1, kept_first)

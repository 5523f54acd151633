"""SafeCLIP: only pairs whose image and caption already agree learn from each other."""

from dataclasses import dataclass

import torch

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext, LossInputs
from defenses.cleanclip import loss_within_modalities

_WHISPER = 0.01  # of CLIP's loss while the modalities learn apart, as the paper's learning rate is then a hundredth
_ROUNDS = 50
_NARROWEST = 1e-3  # standard deviation of a component, in cosines: none shrinks to one pair


@DEFENSES.register("safeclip", groups=("training",), order=163)
@dataclass(frozen=True)
class SafeClip(Defense):
    """At first images and captions learn each from themselves; then pairs that look safe learn from each other.

    Yang et al. 2024, "Better Safe than Sorry: Pre-training CLIP against Targeted Data Poisoning and Backdoor Attacks",
    section 4. Two Gaussians are fitted to the cosine similarities of images and captions. Pairs that belong to the
    higher one take CLIP's loss, all others a contrastive loss within each modality, between the batch and an augmented
    copy of it.

    Where it departs from the paper: there, the modalities learn apart for five epochs, and one epoch of CLIP's loss at
    a hundredth of the learning rate follows; here, CLIP's loss is added with a weight of 0.01 while they learn apart.
    There, the Gaussians are fitted once an epoch to all pairs, and one percent of them more become safe each time;
    here, to each batch by itself. Safe pairs are compared with each other alone, so that a batch with few of them
    teaches little. Where the higher component is much the wider one, the pairs of the very lowest cosines belong to it
    as well. The copies are those of ``cleanclip``. A step costs about twice as much. Made against a few poisoned
    pairs among many clean ones; where all are poisoned there is no clean component to find.

    Args:
        apart: share of the training in which the modalities learn apart; the paper's five epochs of 32.
        sure: probability of the higher component from which a pair is safe.
        smallest: smallest area of a crop, as in ``crop-flip``.
        p: probability that a token is left out of a caption's copy.
    """

    apart: float = ranged(0.16, 0, below=1)
    sure: float = ranged(0.9, above=0, below=1)
    smallest: float = ranged(0.6, above=0, at_most=1)
    p: float = ranged(0.1, 0, below=1)

    def loss(self, batch: LossInputs, at: HookContext) -> torch.Tensor:
        """Nats: CLIP's loss of the safe pairs plus the losses within a modality of the others, by their shares."""
        images, captions = batch.image_features, batch.text_features
        if at.progress < self.apart:
            within = loss_within_modalities(batch, self.smallest, self.p, at)
            return within + _WHISPER * super().loss(batch, at)
        safe = in_higher_component((images * captions).sum(dim=1).detach()) >= self.sure
        total = images.new_zeros(())
        if safe.any():
            # A mixed image keeps the share of its target that belongs to safe captions, and counts by that share.
            targets = batch.targets[safe][:, safe]
            total = total + safe.float().mean() * batch.contrast(images[safe], captions[safe], targets)
        if not safe.all():
            within = loss_within_modalities(batch, self.smallest, self.p, at, ~safe)
            total = total + (~safe).float().mean() * within
        return total

    def label(self) -> str:
        """The name in tables."""
        return "SafeCLIP"

    def describe(self) -> str:
        """The strength in words."""
        return (
            f"modalities apart for {100 * self.apart:g}% of the training, then CLIP's loss for pairs that are safe "
            f"with a probability of {100 * self.sure:g}%"
        )


def in_higher_component(values: torch.Tensor) -> torch.Tensor:
    """The probability of each value to belong to the Gaussian of the higher mean among two that are fitted to all.

    Expectation maximisation, from the lower and the upper half of the values.

    Args:
        values: (N,) cosines.

    Returns:
        (N,) in [0, 1]; one half for values that are all equal.
    """
    x = values.cpu().double()  # Apple's GPUs have no such numbers
    median = x.median()
    # (N, 2): how much of each value belongs to the lower and to the higher component.
    belongs = torch.stack([(x < median) + 0.5 * (x == median), (x > median) + 0.5 * (x == median)], dim=1)
    for _ in range(_ROUNDS):
        weight = belongs.sum(dim=0).clamp(min=1e-6)
        mean = (belongs * x[:, None]).sum(dim=0) / weight
        spread = ((belongs * (x[:, None] - mean) ** 2).sum(dim=0) / weight).clamp(min=_NARROWEST**2)
        log_density = weight.log() - 0.5 * spread.log() - 0.5 * (x[:, None] - mean) ** 2 / spread
        belongs = log_density.softmax(dim=1)
    return belongs[:, mean.argmax()].to(values)

"""How a victim is trained: one frozen dataclass, the paper's values as its defaults."""

from dataclasses import dataclass
from typing import Literal

from benchmark.core.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """A victim's training. Defaults: the paper's victim, RN50 from scratch (reference code's settings).

    Attributes:
        epochs: passes over the rows.
        batch_size: rows a step; the last, incomplete batch of an epoch is left out.
        lr: AdamW's peak learning rate.
        beta1: AdamW's first-moment decay.
        beta2: AdamW's second-moment decay.
        weight_decay: AdamW's; none on norms, biases and the logit scale.
        warmup_steps: steps of linear warm-up, at most ``warmup_share`` of all steps; then cosine to zero.
        warmup_share: the largest share of all steps that warms up.
        rows: ``pairs``: an epoch is every image–caption pair; ``images``: every photo once, with one of its captions
            drawn at random.
        evaluate_every: epochs between evaluations on val and test; the last epoch is always evaluated.
        precision: ``bf16`` autocast, ``fp32``, or ``auto``: bf16 where the device is faster in it.
    """

    epochs: int = 32
    batch_size: int = 128
    lr: float = 5e-4
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.2
    warmup_steps: int = 10_000
    warmup_share: float = 0.1
    rows: Literal["pairs", "images"] = "pairs"
    evaluate_every: int = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        checks = {
            "epochs must be at least 1": self.epochs >= 1,
            "batch_size must be at least 2": self.batch_size >= 2,
            "lr must be above 0": self.lr > 0,
            "beta1 and beta2 must be in [0, 1)": 0 <= self.beta1 < 1 and 0 <= self.beta2 < 1,
            "weight_decay must be at least 0": self.weight_decay >= 0,
            "warmup_steps must be at least 0": self.warmup_steps >= 0,
            "warmup_share must be in [0, 1]": 0 <= self.warmup_share <= 1,
            "evaluate_every must be at least 1": self.evaluate_every >= 1,
        }
        for message, holds in checks.items():
            if not holds:
                raise UsageError(f"recipe: {message}")

"""How a victim is trained: one frozen dataclass, the paper's values as its defaults."""

from dataclasses import dataclass
from typing import Literal

from benchmark.core.parameters import check_ranges, ranged
from benchmark.core.precision import Precision


@dataclass(frozen=True)
class Recipe:
    """A victim's training. Defaults: the paper's victim, RN50 from scratch (reference code, shorter warm-up).

    Attributes:
        epochs: passes over the rows.
        batch_size: rows a step; the last, incomplete batch of an epoch is left out.
        optimizer: ``adamw``, or ``muon``, which needs fewer steps; see :func:`victims.optimizers.make_optimizer`.
        lr: AdamW's peak learning rate.
        matrix_lr: Muon's peak learning rate, for matrices; ``adamw`` does not use it.
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

    epochs: int = ranged(32, 1, 10_000)
    batch_size: int = ranged(128, 2)
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = ranged(5e-4, above=0)
    matrix_lr: float = ranged(0.02, above=0)
    beta1: float = ranged(0.9, 0, below=1)
    beta2: float = ranged(0.999, 0, below=1)
    weight_decay: float = ranged(0.2, 0)
    warmup_steps: int = ranged(10_000, 0)
    warmup_share: float = ranged(0.1, 0, 1)
    rows: Literal["pairs", "images"] = "pairs"
    evaluate_every: int = ranged(1, 1)
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        check_ranges("recipe", self)

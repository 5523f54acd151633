"""The parameters of EM and MEM-k, with the budget of the reference code's MEM as defaults."""

from dataclasses import dataclass
from typing import Literal

from attacks.placement import Kind
from benchmark.core.parameters import added_later, ranged


@dataclass(frozen=True)
class MemSettings:
    """The settings of a crafting run; :class:`attacks.mem.Mem` checks the ranges.

    Args:
        k: words of the trigger.
        eps: bound on the noise, in 1/255.
        rounds: times that surrogate training, HotFlip and PGD alternate.
        surrogate_steps: M, the surrogate's steps per round.
        pgd_steps: PGD steps per round.
        step_size: of a PGD step, in 1/255; at most ``eps``.
        hotflip_rounds: how many rounds, from the first on, change the trigger.
        candidates: tokens tried per trigger position.
        vocabulary: trigger words are drawn from that many of the captions' tokens that can stand as a word (most are
            words; some end a longer one, such as ``plets``); ``none``: from all of CLIP's.
        stop_loss: λ: crafting ends after a round whose mean loss over the data is below it; ``none``: all rounds.
        permute_pgd: permute captions within the batch at every PGD step. Each image keeps its own trigger, so the noise
            goes with the trigger and not with the caption. The reference code does this, Algorithm 1 does not; only
            for k ≥ 1.
        permute_surrogate: the same in the surrogate's steps; not in Algorithm 1; only for k ≥ 1.
        permute_images: put each noise on another image of the batch at every step. Then only the noise goes with the
            caption, so the noise has to carry what the caption says. Not in Algorithm 1.
        restart_every: rounds after which a new surrogate replaces the last one. The noise is then fitted to what a
            model learns first, and not to a single model that has trained on it for long; ``none``: one surrogate
            throughout, as in Algorithm 1.
        per: one noise and trigger per ``image``, or per ``row`` (image–caption pair), as the reference code has it.
        batch_size: rows a step.
        optimizer: the surrogate's, ``adamw`` or ``muon``; see :func:`victims.optimizers.make_optimizer`.
        lr: the surrogate's constant AdamW learning rate.
        matrix_lr: the surrogate's constant learning rate of matrices under Muon.
        weight_decay: the surrogate's.
        place: where the trigger stands in a caption: in ``front``, at the ``end``, at a ``random`` place of each
            caption, or ``spread`` word by word; see :class:`attacks.placement.Place`. In the paper it is in front.
    """

    k: int = ranged(3, 0, 32)
    eps: int = ranged(8, 1, 127, unit="1/255")
    rounds: int = ranged(20, 1, 1000)
    surrogate_steps: int = ranged(200, 1, 10_000)
    pgd_steps: int = ranged(8, 1)
    step_size: int = ranged(1, 1, unit="1/255")
    hotflip_rounds: int = ranged(5, 0)
    candidates: int = ranged(16, 1)
    vocabulary: int | None = ranged(None, 2, unit="words")
    stop_loss: float | None = ranged(None, above=0)
    permute_pgd: bool = True
    permute_surrogate: bool = False
    permute_images: bool = False
    restart_every: int | None = ranged(None, 1, unit="rounds")
    per: Literal["image", "row"] = "image"
    batch_size: int = ranged(128, 2)
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = ranged(1e-4, above=0)
    matrix_lr: float = ranged(0.02, above=0)
    weight_decay: float = ranged(0.2, 0)
    place: Kind = added_later("front")

    @property
    def permuted_steps(self) -> list[str]:
        """The steps that permute captions, of ``PGD`` and ``surrogate``; none without a trigger."""
        steps = {"PGD": self.permute_pgd, "surrogate": self.permute_surrogate}
        return [name for name, permuted in steps.items() if permuted and self.k]

"""EM and MEM-k: error-minimising noise, and with k ≥ 1 a text trigger crafted together with it.

Algorithm 1 of the supplement of "Multimodal Unlearnable Examples: Protecting Data against Multimodal Contrastive
Learning" (ACM MM 2024). EM is MEM with k = 0: one code path, one budget.
"""

import math
from pathlib import Path
from typing import Literal

import torch

from attacks.base import ATTACKS, Attack, Surrogate
from attacks.crafting import Crafting
from attacks.official import OFFICIAL
from attacks.poison import Poison
from attacks.vocabulary import described
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.distributed import Processes
from benchmark.core.errors import UsageError, VictimDiverged
from benchmark.core.progress import Progress
from benchmark.data import CaptionDataset


@ATTACKS.register(
    "mem",
    order=10,
    aliases={"em": {"k": 0}, **{f"mem{k}": {"k": k} for k in (1, 3, 5, 7)}, **OFFICIAL},
)
class Mem(Attack):
    """Multi-step error minimisation: noise per image and a k-word trigger before its captions; k = 0 is EM.

    Args:
        k: words of the trigger.
        eps: bound on the noise, in 1/255.
        rounds: times that surrogate training, HotFlip and PGD alternate.
        surrogate_steps: M, the surrogate's steps per round.
        pgd_steps: PGD steps per round.
        step_size: of a PGD step, in 1/255.
        hotflip_rounds: the first rounds that change the trigger.
        candidates: tokens tried per trigger position.
        vocabulary: trigger words are drawn from that many of the captions' tokens that can stand as a word (most are
            words; some end a longer one, such as ``plets``); ``none``: from all of CLIP's.
        stop_loss: λ: crafting ends after a round whose mean loss over the data is below it; ``none``: all rounds.
        permute_pgd: permute captions within the batch at every PGD step, each image keeping its own trigger, so that
            the noise is tied to the trigger and not to the caption (k ≥ 1 only); so in the reference code, not in
            Algorithm 1.
        permute_surrogate: the same in the surrogate's steps; not in Algorithm 1 (k ≥ 1 only).
        fresh_surrogate: every round trains a new surrogate from scratch instead of going on with the last one, so that
            the noise is what a model learns first and not what one model has got used to; not in Algorithm 1.
        per: one noise and trigger per ``image``, or per ``row`` (image–caption pair), as the reference code has it.
        batch_size: rows a step.
        lr: the surrogate's constant AdamW learning rate.
        weight_decay: the surrogate's.
    """

    version = 1

    def __init__(
        self,
        k: int = 3,
        eps: int = 8,
        rounds: int = 20,
        surrogate_steps: int = 200,
        pgd_steps: int = 8,
        step_size: int = 1,
        hotflip_rounds: int = 5,
        candidates: int = 16,
        vocabulary: int | None = None,
        stop_loss: float | None = None,
        permute_pgd: bool = True,
        permute_surrogate: bool = False,
        fresh_surrogate: bool = False,
        per: Literal["image", "row"] = "image",
        batch_size: int = 128,
        lr: float = 1e-4,
        weight_decay: float = 0.2,
    ) -> None:
        checks = {
            "k must be between 0 and 32": 0 <= k <= 32,
            "eps, in 1/255, must be between 1 and 127": 1 <= eps <= 127,
            "rounds must be at least 1": rounds >= 1,
            "surrogate_steps must be at least 1": surrogate_steps >= 1,
            "pgd_steps must be at least 1": pgd_steps >= 1,
            "step_size, in 1/255, must be between 1 and eps": 1 <= step_size <= eps,
            "hotflip_rounds must be at least 0": hotflip_rounds >= 0,
            "candidates must be at least 1": candidates >= 1,
            "vocabulary must be at least 2 words": vocabulary is None or vocabulary >= 2,
            "stop_loss must be above 0": stop_loss is None or stop_loss > 0,
            "batch_size must be at least 2": batch_size >= 2,
            "lr must be above 0": lr > 0,
            "weight_decay must be at least 0": weight_decay >= 0,
        }
        for message, holds in checks.items():
            if not holds:
                raise UsageError(f"attack mem: {message}")
        self.k, self.eps, self.rounds = k, eps, rounds
        self.surrogate_steps, self.pgd_steps, self.step_size = surrogate_steps, pgd_steps, step_size
        self.hotflip_rounds, self.candidates, self.vocabulary = hotflip_rounds, candidates, vocabulary
        self.stop_loss, self.per, self.batch_size = stop_loss, per, batch_size
        self.permute_pgd, self.permute_surrogate = permute_pgd and k > 0, permute_surrogate and k > 0
        self.fresh_surrogate, self.lr, self.weight_decay = fresh_surrogate, lr, weight_decay

    def label(self) -> str:
        """The name in tables."""
        return f"MEM-{self.k}" if self.k else "EM"

    def describe(self) -> str:
        """The strength in words."""
        parts = [
            f"ε = {self.eps}/255",
            f"{self.rounds} rounds of {self.surrogate_steps} surrogate steps and {self.pgd_steps} PGD steps of "
            f"{self.step_size}/255",
        ]
        if self.k:
            parts.append(
                f"HotFlip in the first {self.hotflip_rounds} with {self.candidates} candidates from "
                f"{described(self.vocabulary)}"
            )
            permuted = [name for name, on in (("PGD", self.permute_pgd), ("surrogate", self.permute_surrogate)) if on]
            parts.append(f"captions permuted in {' and '.join(permuted)} steps" if permuted else "no permutation")
        if self.fresh_surrogate:
            parts.append("a new surrogate every round")
        if self.stop_loss is not None:
            parts.append(f"until the loss is below {self.stop_loss:g}")
        if self.per == "row":
            parts.append("one noise per image–caption pair")
        return ", ".join(parts)

    def progress_steps(self, train: CaptionDataset) -> int:
        """Surrogate steps and batches of HotFlip and PGD over all rounds."""
        return self.rounds * (self.surrogate_steps + math.ceil(self._rows(train) / self.batch_size))

    def check(self, train: CaptionDataset) -> None:
        """At least one batch of rows; see :meth:`attacks.base.Attack.check`."""
        Processes.current().shard(self.batch_size)
        rows = self._rows(train)
        if rows < self.batch_size:
            raise UsageError(
                f"{train.name}: {rows} training rows are fewer than one crafting batch of {self.batch_size}; "
                "give more data or a smaller batch_size to the attack"
            )

    def craft(
        self,
        train: CaptionDataset,
        surrogate: Surrogate,
        *,
        seed: int,
        device: torch.device,
        workdir: Path,
        progress: Progress,
        checkpoint: Checkpoint | None = None,
    ) -> Poison:
        """Craft noise and triggers; see :meth:`attacks.base.Attack.craft`."""
        self.check(train)
        rows = train.by_row() if self.per == "row" else train
        checkpoint = checkpoint or Checkpoint()
        crafting = Crafting(self, rows, surrogate, seed, workdir)
        losses: list[float] = []
        if (state := checkpoint.load()) is not None:
            crafting.load_state(state["crafting"])
            losses = state["losses"]
            progress.resume(len(losses) * self.progress_steps(train) // self.rounds)
        for round_ in range(len(losses), self.rounds):
            crafting.train_surrogate(round_, progress)
            losses.append(crafting.perturb(round_, progress))
            if not math.isfinite(losses[-1]):
                raise VictimDiverged(f"the surrogate's loss is {losses[-1]} in crafting round {round_ + 1}")
            if self.stop_loss is not None and losses[-1] < self.stop_loss:
                break
            if checkpoint.is_due(round_ + 1, self.rounds):
                checkpoint.save({"crafting": crafting.state(), "losses": losses})
        return Poison(
            delta=crafting.delta,
            trigger=crafting.trigger_texts(),
            eps=self.eps,
            fingerprint=train.fingerprint,
            per_row=self.per == "row",
            provenance={"loss_per_round": losses},
        )

    def _rows(self, train: CaptionDataset) -> int:
        return len(train.pairs) if self.per == "row" else len(train)

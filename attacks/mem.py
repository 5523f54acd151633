"""EM and MEM-k: error-minimising noise, and with k ≥ 1 a text trigger crafted together with it.

Algorithm 1 of the supplement of "Multimodal Unlearnable Examples: Protecting Data against Multimodal Contrastive
Learning" (ACM MM 2024). EM is MEM with k = 0, on one code path; the small presets give it a budget of its own.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from attacks.base import ATTACKS, Attack, CraftContext, require_batch
from attacks.crafting import Crafting
from attacks.mem_settings import MemSettings
from attacks.official import OFFICIAL
from attacks.placement import where
from attacks.poison import Poison
from attacks.vocabulary import described, require_words
from benchmark.core.distributed import Processes
from benchmark.core.errors import VictimDiverged
from benchmark.core.parameters import require
from benchmark.data import CaptionDataset


@ATTACKS.register(
    "mem",
    order=10,
    aliases={"em": {"k": 0}, **{f"mem{k}": {"k": k} for k in (1, 3, 5, 7)}, **OFFICIAL},
)
@dataclass(frozen=True)
class Mem(MemSettings, Attack):
    """Multi-step error minimisation: noise per image and a k-word trigger before its captions; k = 0 is EM.

    Its parameters are those of :class:`attacks.mem_settings.MemSettings`.
    """

    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        owner = f"attack {ATTACKS.name_of(type(self))}"
        require(self.step_size <= self.eps, owner, "step_size", f"at most eps = {self.eps}", self.step_size)
        require(self.k > 0 or self.place == "front", owner, "place", "front (there is no trigger)", self.place)

    def label(self) -> str:
        """The name in tables."""
        if not self.k:
            return "EM"
        return f"MEM-{self.k}" + ("" if self.place == "front" else f" {self.place}")

    def describe(self) -> str:
        """The strength in words."""
        parts = [
            f"ε = {self.eps}/255",
            f"{self.rounds} rounds of {self.surrogate_steps} surrogate steps and {self.pgd_steps} PGD steps of "
            f"{self.step_size}/255",
        ]
        if self.k:
            searched = min(self.hotflip_rounds, self.rounds)
            source = described(self.vocabulary)
            search = f"HotFlip in the first {searched} with {self.candidates} candidates from {source}"
            parts.append(search if searched else f"a trigger drawn from {source}")
            if self.place != "front":
                parts.append(f"the trigger {where(self.place)} each caption")
            permuted = " and ".join(self.permuted_steps)
            parts.append(f"captions permuted in {permuted} steps" if permuted else "no permutation")
        if self.permute_images:
            parts.append("each noise on other images of its batch")
        if self.restart_every and self.restart_every < self.rounds:
            rounds = "round" if self.restart_every == 1 else f"{self.restart_every} rounds"
            parts.append(f"a new surrogate every {rounds}")
        if self.stop_loss is not None:
            parts.append(f"until the loss is below {self.stop_loss:g}")
        if self.per == "row":
            parts.append("one noise per image–caption pair")
        return ", ".join(parts)

    def progress_steps(self, train: CaptionDataset) -> int:
        """Surrogate steps and batches of HotFlip and PGD over all rounds."""
        return len(self.step_kinds(train))

    def step_kinds(self, train: CaptionDataset) -> list[str]:
        """In each round the surrogate's steps, then the batches; ``HotFlip``: a batch with HotFlip and PGD steps."""
        kinds: list[str] = []
        for round_ in range(self.rounds):
            flips = self.k > 0 and round_ < self.hotflip_rounds
            kinds += ["surrogate"] * self.surrogate_steps
            kinds += ["HotFlip" if flips else "PGD"] * math.ceil(self._rows(train) / self.batch_size)
        return kinds

    def pilot(self) -> tuple["Mem", int]:
        """Four short rounds on one batch of rows, the first two with HotFlip."""
        flips = min(2, self.hotflip_rounds)
        return replace(self, rounds=4, surrogate_steps=3, hotflip_rounds=flips, stop_loss=None), self.batch_size

    def check(self, train: CaptionDataset) -> None:
        """At least one batch of rows, and words for the trigger; see :meth:`attacks.base.Attack.check`."""
        Processes.current().shard(self.batch_size)
        require_batch(train, self._rows(train), self.batch_size)
        require_words(train, self.vocabulary if self.k else None)

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Craft noise and triggers; see :meth:`attacks.base.Attack.craft`."""
        crafting = Crafting(self, train.by_row() if self.per == "row" else train, context)
        losses: list[float] = []
        if (state := context.checkpoint.load()) is not None:
            with context.checkpoint.restoring():
                crafting.load_state(state["crafting"])
                losses = [float(loss) for loss in state["losses"]]
            context.progress.resume(len(losses) * self.progress_steps(train) // self.rounds)
        for round_ in range(len(losses), self.rounds):
            crafting.train_surrogate(round_)
            losses.append(crafting.perturb(round_))
            if not math.isfinite(losses[-1]):
                raise VictimDiverged(f"the surrogate's loss is {losses[-1]} in crafting round {round_ + 1}")
            if self.stop_loss is not None and losses[-1] < self.stop_loss:
                for _ in range(self.progress_steps(train) * (self.rounds - len(losses)) // self.rounds):
                    context.progress.advance()  # the rounds that are not needed
                break
            if context.checkpoint.is_due(round_ + 1, self.rounds):
                context.checkpoint.save({"crafting": crafting.state(), "losses": losses})
        return Poison(
            delta=crafting.delta,
            trigger=crafting.trigger_texts(),
            eps=self.eps,
            fingerprint=train.fingerprint,
            per_row=self.per == "row",
            provenance={"loss_per_round": losses},
            place=crafting.place,
        )

    def _rows(self, train: CaptionDataset) -> int:
        return len(train.pairs) if self.per == "row" else len(train)

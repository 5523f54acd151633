"""Word-wise MEM: the noise of word-wise EM, and on the protected images a trigger as MEM crafts it.

Our own method; see :mod:`attacks.em_wordwise` and Algorithm 1 of "Multimodal Unlearnable Examples" (2024).
"""

import math
from dataclasses import dataclass, replace

from attacks.base import ATTACKS, CraftContext
from attacks.crafting import Crafting
from attacks.em_wordwise import WordwiseEm
from attacks.mem_settings import MemSettings
from attacks.poison import Poison
from attacks.vocabulary import described, require_words
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.distributed import Processes
from benchmark.core.errors import VictimDiverged
from benchmark.core.parameters import ranged
from benchmark.data import CaptionDataset


@ATTACKS.register("mem-wordwise", order=16)
@dataclass(frozen=True)
class WordwiseMem(WordwiseEm):
    """Word-wise EM's noise with a k-word trigger: HotFlip as in MEM, with no PGD.

    The trigger's surrogates train on captions of other images, as MEM's do in the small presets
    (``permute_surrogate``). Their learning rates stay at the peak.

    Args:
        k: words of the trigger.
        hotflip_rounds: fresh surrogates, each of which changes the trigger once.
        surrogate_steps: training steps of each of these.
        candidates: tokens tried per trigger position.
        vocabulary: trigger words are drawn from that many of the captions' tokens; ``none``: from all of CLIP's.
    """

    k: int = ranged(3, 1, 32)
    hotflip_rounds: int = ranged(3, 1, 1000)
    surrogate_steps: int = ranged(60, 1, 10_000)
    candidates: int = ranged(4, 1)
    vocabulary: int | None = ranged(200, 2, unit="words")

    def label(self) -> str:
        """The name in tables."""
        return f"MEM-{self.k} word-wise" + (f" through {self.through}" if self.through else "")

    def describe(self) -> str:
        """The strength in words."""
        return (
            f"{super().describe()}; then {self.hotflip_rounds} rounds of {self.surrogate_steps} surrogate steps and "
            f"HotFlip with {self.candidates} candidates from {described(self.vocabulary)}"
        )

    def progress_steps(self, train: CaptionDataset) -> int:
        """Those of word-wise EM, then surrogate steps and batches of HotFlip."""
        return super().progress_steps(train) + len(self._trigger_kinds(train))

    def step_kinds(self, train: CaptionDataset) -> list[str]:
        """Steps of word-wise EM, of the trigger's surrogates, and batches of HotFlip."""
        return ["patterns"] * super().progress_steps(train) + self._trigger_kinds(train)

    def pilot(self) -> tuple["WordwiseMem", int]:
        """A few steps of each kind on one batch of images."""
        return replace(self, restarts=1, steps=4, hotflip_rounds=1, surrogate_steps=3), self.batch_size

    def check(self, train: CaptionDataset) -> None:
        """A batch that processes can share, and words for the trigger; see :meth:`attacks.base.Attack.check`."""
        Processes.current().shard(self.batch_size)
        super().check(train)
        require_words(train, self.vocabulary)

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Craft the noise, then the trigger on the protected images; see :meth:`attacks.base.Attack.craft`."""
        # Checkpoints hold the patterns; the trigger takes a small part of the time and starts again.
        settings, of_trigger = self._trigger_settings(), replace(context, checkpoint=Checkpoint())
        noise = super().craft(train, context)
        crafting = Crafting(settings, noise.protect(train), of_trigger)
        losses = []
        for round_ in range(self.hotflip_rounds):
            crafting.train_surrogate(round_)
            losses.append(crafting.perturb(round_))
            if not math.isfinite(losses[-1]):
                raise VictimDiverged(f"the surrogate's loss is {losses[-1]} in round {round_ + 1} of the trigger")
        provenance = {"loss_per_round": [*noise.provenance["loss_per_round"], *losses]}
        return replace(noise, trigger=crafting.trigger_texts(), provenance=provenance)

    def _trigger_settings(self) -> MemSettings:
        return MemSettings(
            k=self.k,
            rounds=self.hotflip_rounds,
            surrogate_steps=self.surrogate_steps,
            pgd_steps=0,
            hotflip_rounds=self.hotflip_rounds,
            candidates=self.candidates,
            vocabulary=self.vocabulary,
            permute_surrogate=True,
            restart_every=1,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            lr=self.lr,
            matrix_lr=self.matrix_lr,
            weight_decay=self.weight_decay,
        )

    def _trigger_kinds(self, train: CaptionDataset) -> list[str]:
        batches = -(-len(train) // self.batch_size)
        return (["surrogate"] * self.surrogate_steps + ["HotFlip"] * batches) * self.hotflip_rounds

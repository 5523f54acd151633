"""What attacks share that are crafted against one surrogate which has been trained on clean data."""

from dataclasses import dataclass
from typing import Any, Literal

from attacks.base import Attack, CraftContext, require_batch
from attacks.crafting import Crafting
from attacks.mem_settings import MemSettings
from benchmark.core.distributed import Processes
from benchmark.core.parameters import ranged
from benchmark.data import CaptionDataset
from victims.clip import Clip
from victims.passage import Passage
from victims.training_state import load_state


@dataclass(frozen=True)
class CleanSurrogate(Attack):
    """An attack against one surrogate that was trained on the clean data.

    Args:
        eps: bound on the noise, in 1/255.
        surrogate_steps: training steps of the surrogate; 0 for one that starts from a checkpoint and stays as it is.
        batch_size: rows a step.
        optimizer: the surrogate's; see :func:`victims.optimizers.make_optimizer`.
        lr: learning rate of the surrogate's AdamW.
        matrix_lr: the same of matrices under Muon.
        weight_decay: the surrogate's.
    """

    eps: int = ranged(8, 1, 127, unit="1/255")
    surrogate_steps: int = ranged(1000, 0, 100_000)
    batch_size: int = ranged(128, 2)
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = ranged(5e-4, above=0)
    matrix_lr: float = ranged(0.02, above=0)
    weight_decay: float = ranged(0.1, 0)

    def check(self, train: CaptionDataset) -> None:
        """At least one batch of images, which processes can share; see :meth:`attacks.base.Attack.check`."""
        Processes.current().shard(self.batch_size)
        require_batch(train, len(train), self.batch_size)

    def progress_steps(self, train: CaptionDataset) -> int:
        """The number of steps in :meth:`step_kinds`."""
        return len(self.step_kinds(train))

    def trained(self, train: CaptionDataset, context: CraftContext) -> tuple[Crafting, dict[str, Any] | None]:
        """Train the surrogate on clean data, or restore it from the checkpoint.

        Returns:
            The crafting run, with the trained surrogate and noise of zero for all images; and the content of the
            checkpoint, ``None`` without one. Its entry ``surrogate`` must be that of :meth:`Crafting.state`.
        """
        settings = MemSettings(
            k=0,
            eps=self.eps,
            rounds=1,
            surrogate_steps=self.surrogate_steps,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            lr=self.lr,
            matrix_lr=self.matrix_lr,
            weight_decay=self.weight_decay,
        )
        # With noise of zero and no trigger, MEM's surrogate step is a step on clean data.
        crafting = Crafting(settings, train, context)
        if (state := context.checkpoint.load()) is None:
            crafting.train_surrogate(0)
        else:
            with context.checkpoint.restoring():
                load_state(state["surrogate"], crafting.model, crafting.optimizer, crafting.table)
        return crafting, state


def frozen_surrogate(crafting: Crafting) -> Clip:
    """The surrogate of a crafting run, for gradients with respect to pixels alone."""
    model = crafting.model.for_inference()
    # The surrogate's own passage, not a copy: checkpoints hold the surrogate, and with it the count of batches.
    model.passage = crafting.model.passage
    if isinstance(model.passage, Passage):
        model.passage.shard = 0  # from here on each process has whole batches
    return model

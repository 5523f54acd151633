"""No attack: the data are published as they are."""

from pathlib import Path

import torch

from attacks.base import ATTACKS, Attack, Surrogate
from attacks.poison import Poison
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.progress import Progress
from benchmark.data import CaptionDataset


@ATTACKS.register("clean", order=0)
class Clean(Attack):
    """No protection: clean images and captions, the upper bound of every table."""

    version = 1

    def label(self) -> str:
        """The name in tables."""
        return "Clean"

    def progress_steps(self, train: CaptionDataset) -> int:
        """Nothing to do."""
        return 0

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
        """An empty poison; see :meth:`attacks.base.Attack.craft`."""
        return Poison(delta=None, trigger=None, eps=0, fingerprint=train.fingerprint)

"""No attack: the data are published as they are."""

from pathlib import Path

import torch

from attacks.base import ATTACKS, Attack, Surrogate
from attacks.poison import Poison
from benchmark.checkpoints import Checkpoint
from benchmark.data import CaptionDataset
from benchmark.progress import Stage


@ATTACKS.register("clean", order=0)
class Clean(Attack):
    """No protection: clean images and captions, the upper bound of every table."""

    version = 1

    def label(self) -> str:
        """The name in tables."""
        return "Clean"

    def units(self, train: CaptionDataset) -> int:
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
        progress: Stage,
        checkpoint: Checkpoint | None = None,
    ) -> Poison:
        """An empty poison; see :meth:`attacks.base.Attack.craft`."""
        return Poison(delta=None, trigger=None, eps=0, fingerprint=train.fingerprint)

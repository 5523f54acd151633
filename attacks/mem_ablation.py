"""One half of a MEM poison, the other half dropped: what noise or trigger does alone."""

from pathlib import Path
from typing import ClassVar

import torch

from attacks.base import Surrogate
from attacks.mem import Mem
from attacks.poison import Poison
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.errors import UsageError
from benchmark.core.progress import Progress
from benchmark.data import CaptionDataset


class Half(Mem):
    """MEM with the same parameters, and then only a half of its poison; same seed, same whole."""

    part_of = "mem"
    half: ClassVar[str]

    def label(self) -> str:
        """The name in tables."""
        return f"{self.half.capitalize()} only"

    def describe(self) -> str:
        """Which half, and the strength of the whole."""
        return f"the {self.half} alone of MEM-{self.k}: {super().describe()}"

    def check(self, train: CaptionDataset) -> None:
        """A trigger to keep or drop; see :meth:`attacks.base.Attack.check`."""
        if not self.k:
            raise UsageError(f"attack {self.half}-only: k must be at least 1; without a trigger there are no halves")
        super().check(train)

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
        """Craft the whole and keep a half; see :meth:`attacks.base.Attack.craft`."""
        whole = super().craft(
            train, surrogate, seed=seed, device=device, workdir=workdir, progress=progress, checkpoint=checkpoint
        )
        return self.derive_from(whole)

"""A poison from a file: crafted elsewhere or earlier, measured like any other."""

from pathlib import Path

import torch

from attacks.base import ATTACKS, Attack, Surrogate
from attacks.poison import Poison
from benchmark.core.atomic_files import sha256_of
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.errors import PoisonError
from benchmark.core.progress import Progress
from benchmark.data import CaptionDataset


@ATTACKS.register("poison", order=90)
class Stored(Attack):
    """A stored poison file, checked against its own ε and the training set it belongs to.

    Args:
        file: a poison as this benchmark saves it.
    """

    version = 1

    def __init__(self, file: str) -> None:
        self._path = Path(file)
        # Read now: a missing or damaged poison ends the run before any work.
        self._poison = Poison.load(self._path)
        self._digest = sha256_of(self._path)

    def label(self) -> str:
        """The name in tables."""
        return f"Poison {self._path.stem}"

    def identity(self) -> str:
        """SHA-256 of the file: another poison under the same name is another attack."""
        return self._digest

    def describe(self) -> str:
        """The bound and where the poison came from."""
        return f"ε = {self._poison.eps}/255, from {self._path.name}"

    def progress_steps(self, train: CaptionDataset) -> int:
        """Nothing to craft."""
        return 0

    def check(self, train: CaptionDataset) -> None:
        """See that the poison belongs to the training set; see :meth:`attacks.base.Attack.check`."""
        if self._poison.fingerprint != train.fingerprint:
            raise PoisonError(
                f"{self._path} was crafted for other data (fingerprint {self._poison.fingerprint[:12]}…) "
                f"than {train.name} ({train.fingerprint[:12]}…)"
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
        """The stored poison; see :meth:`attacks.base.Attack.craft`."""
        self.check(train)
        return self._poison

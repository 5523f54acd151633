"""A poison from a file: crafted elsewhere or earlier, measured like any other."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from attacks.base import ATTACKS, Attack, CraftContext
from attacks.poison import Poison
from benchmark.core.cache_dir import user_path
from benchmark.core.digests import file_sha256
from benchmark.core.errors import PoisonError, as_usage_error
from benchmark.data import CaptionDataset


@ATTACKS.register("poison", order=90)
@dataclass(frozen=True)
class Stored(Attack):
    """A stored poison file, checked against its own ε and the training set it belongs to.

    Args:
        file: a poison as this benchmark saves it.
    """

    builds_surrogate = False

    file: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.identity()  # reads the file: a missing or damaged poison ends the run before any work

    def label(self) -> str:
        """The name in tables."""
        return f"Poison {self._path.stem}"

    def identity(self) -> str:
        """SHA-256 of the file: another poison under the same name is another attack."""
        return self._content[1]

    def describe(self) -> str:
        """The bound and where the poison came from."""
        return f"ε = {self._poison.eps}/255, from {self._path.name}"

    def progress_steps(self, train: CaptionDataset) -> int:
        """Nothing to craft."""
        return 0

    def check(self, train: CaptionDataset) -> None:
        """Check that the poison belongs to the training set; see :meth:`attacks.base.Attack.check`."""
        with as_usage_error(str(self._path), (PoisonError,)):
            self._poison.protect(train)  # refuses other data, and noise or triggers of another number or shape

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """The stored poison; see :meth:`attacks.base.Attack.craft`."""
        return self._poison

    def __getstate__(self) -> dict[str, str]:
        """The name of the file alone, which workers read for themselves: its noise may have gigabytes."""
        return {"file": self.file}

    @property
    def _path(self) -> Path:
        return user_path(self.file)

    @property
    def _poison(self) -> Poison:
        return self._content[0]

    @cached_property
    def _content(self) -> tuple[Poison, str]:
        return Poison.load(self._path), file_sha256(self._path)

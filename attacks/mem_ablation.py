"""One half of a MEM poison, the other half dropped: what noise or trigger does alone."""

from typing import ClassVar

from attacks.base import ATTACKS, CraftContext
from attacks.mem import Mem
from attacks.poison import Poison
from benchmark.core.parameters import require
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
        allowed = "at least 1 (without a trigger there are no halves)"
        require(self.k >= 1, f"attack {ATTACKS.name_of(type(self))}", "k", allowed, self.k)
        super().check(train)

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Craft the whole and keep a half; see :meth:`attacks.base.Attack.craft`."""
        return self.derive_from(super().craft(train, context), train, context)

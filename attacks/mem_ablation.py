"""One part of a MEM poison, noise or trigger, without the other: what it does by itself."""

from typing import ClassVar

from attacks.base import ATTACKS, CraftContext
from attacks.mem import Mem
from attacks.poison import Poison
from benchmark.core.parameters import require
from benchmark.data import CaptionDataset


class MemPart(Mem):
    """MEM with the same parameters, and then only one part of its poison. The same seed gives the same whole.

    Attributes:
        kept: that part, ``delta`` or ``trigger``; the other is dropped, or replaced by one that nobody crafted.
    """

    part_of = "mem"
    kept: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = "at least 1 (without a trigger there are no halves)"
        require(self.k >= 1, f"attack {ATTACKS.name_of(type(self))}", "k", allowed, self.k)

    def label(self) -> str:
        """The name in tables."""
        return f"{self.kept.capitalize()} only"

    def describe(self) -> str:
        """Which part, and the strength of the whole."""
        return f"the {self.kept} alone of MEM-{self.k}: {super().describe()}"

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Craft the whole and keep the part; see :meth:`attacks.base.Attack.craft`."""
        return self.derive_from(super().craft(train, context), train, context)

"""Control: MEM's noise on the images, captions as they are."""

from dataclasses import replace

from attacks.base import ATTACKS, CraftContext
from attacks.mem_ablation import MemPart
from attacks.poison import Poison
from benchmark.data import CaptionDataset


@ATTACKS.register("delta-only", order=31)
class DeltaOnly(MemPart):
    """The noise of MEM with the same parameters, without its trigger (k at least 1)."""

    kept = "delta"

    def derive_from(self, whole: Poison, train: CaptionDataset, context: CraftContext) -> Poison:
        """Without a trigger."""
        return replace(whole, trigger=None)

"""Control: MEM's trigger words before the captions, images as they are."""

from dataclasses import replace

from attacks.base import ATTACKS, CraftContext
from attacks.mem_ablation import MemPart
from attacks.poison import Poison
from benchmark.data import CaptionDataset


@ATTACKS.register("trigger-only", order=30)
class TriggerOnly(MemPart):
    """The trigger of MEM with the same parameters, without its noise (k at least 1)."""

    kept = "trigger"

    def derive_from(self, whole: Poison, train: CaptionDataset, context: CraftContext) -> Poison:
        """Without noise, and so with nothing to bound."""
        return replace(whole, delta=None, eps=0)

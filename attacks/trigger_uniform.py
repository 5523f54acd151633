"""Control: MEM's trigger words before the captions, and noise of the same bound that nobody crafted."""

from dataclasses import replace

from attacks.base import ATTACKS, CraftContext
from attacks.mem import Mem
from attacks.mem_ablation import MemPart
from attacks.poison import Poison
from attacks.uniform_noise import UniformNoise
from benchmark.core.progress import Silent
from benchmark.data import CaptionDataset


@ATTACKS.register("trigger-uniform", order=34)
class TriggerUniform(MemPart):
    """The trigger of MEM with the same parameters, and ``uniform-noise`` in place of its noise (k at least 1)."""

    def label(self) -> str:
        """The name in tables."""
        return "Trigger + uniform"

    def describe(self) -> str:
        """Whose trigger, and the strength of the whole."""
        return f"the trigger of MEM-{self.k} and noise drawn at random within its ε: {Mem.describe(self)}"

    def derive_from(self, whole: Poison, train: CaptionDataset, context: CraftContext) -> Poison:
        """With the noise that ``uniform-noise`` draws from the same seed, one per image or pair as the whole has it."""
        rows = train.by_row() if whole.per_row else train
        noise = UniformNoise(self.eps).craft(rows, replace(context, progress=Silent()))
        return replace(whole, delta=noise.delta)

"""No attack: the data are published as they are."""

from attacks.base import ATTACKS, Attack, CraftContext
from attacks.poison import Poison
from benchmark.data import CaptionDataset


@ATTACKS.register("clean", order=0)
class Clean(Attack):
    """No protection: clean images and captions, the upper bound of every table."""

    builds_surrogate = False

    def progress_steps(self, train: CaptionDataset) -> int:
        """Nothing to do."""
        return 0

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """An empty poison; see :meth:`attacks.base.Attack.craft`."""
        return Poison(delta=None, trigger=None, eps=0, fingerprint=train.fingerprint)

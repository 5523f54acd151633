"""Control: words before the captions that nobody searched for."""

from pathlib import Path

import torch

from attacks.base import ATTACKS, Attack, Surrogate
from attacks.poison import Poison
from attacks.vocabulary import described, drawn_triggers, trigger_words
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.errors import UsageError
from benchmark.core.progress import Progress
from benchmark.data import CaptionDataset
from victims.tokens import Tokenizer


@ATTACKS.register("random-trigger", order=33)
class RandomTrigger(Attack):
    """The words that MEM's triggers start from, as they are: drawn at random for every image; no noise.

    Args:
        k: words of the trigger.
        vocabulary: as in ``mem``.
    """

    version = 1

    def __init__(self, k: int = 3, vocabulary: int | None = None) -> None:
        if not 1 <= k <= 32:
            raise UsageError("attack random-trigger: k must be between 1 and 32")
        if vocabulary is not None and vocabulary < 2:
            raise UsageError("attack random-trigger: vocabulary must be at least 2 words")
        self.k, self.vocabulary = k, vocabulary

    def label(self) -> str:
        """The name in tables."""
        return "Random trigger"

    def describe(self) -> str:
        """The strength in words."""
        return f"k = {self.k}, drawn at random from {described(self.vocabulary)}"

    def progress_steps(self, train: CaptionDataset) -> int:
        """All triggers are drawn at once."""
        return 1

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
        """Draw the words; no surrogate is built. See :meth:`attacks.base.Attack.craft`."""
        tokenizer = Tokenizer()
        words = trigger_words(tokenizer, train, self.vocabulary, seed)
        triggers = [tokenizer.decode(ids) for ids in drawn_triggers(words, len(train), self.k, seed).tolist()]
        progress.advance("")
        return Poison(delta=None, trigger=triggers, eps=0, fingerprint=train.fingerprint)

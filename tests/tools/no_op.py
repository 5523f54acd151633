"""A plug-in whose attack crafts nothing and whose victims train nothing, to measure what a grid costs beside its cells.

In every process that loads it, `Grid._run`, which protects the data, trains the victim and evaluates it, is replaced by
one that returns made-up scores at once. All else is real: plan, tasks, claims, files, records.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attacks import ATTACKS, Attack, CraftContext, Poison
from benchmark.data import CaptionDataset
from benchmark.grid.records import EpochScores, Record
from benchmark.grid.runner import Grid
from benchmark.metrics import Retrieval, RetrievalScores


@ATTACKS.register("no-op")
@dataclass(frozen=True)
class NoOp(Attack):
    """Noise that is zero everywhere."""

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Make the zeros."""
        return Poison(np.zeros(train.images.shape, np.int8), None, 0, train.fingerprint)


def _run(self: Grid, cell: Any, data: Any, base: Record, checkpoint: Any) -> Record:
    one = RetrievalScores(10.0, 20.0, 30.0, 5.0, 9.0)
    both = Retrieval(one, one)
    epochs = tuple(EpochScores(epoch, both, both, both) for epoch in range(1, cell.recipe.epochs + 1))
    seconds = {"craft": 0.0, "train": 0.0, "evaluate": 0.0}
    return replace(base, epochs=epochs, loss=(1.0,) * cell.recipe.epochs, seconds=seconds)


Grid._run = _run  # type: ignore[method-assign]

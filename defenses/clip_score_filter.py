"""CLIP-score filter: pairs that the victim itself finds ill-matched are left out."""

from dataclasses import dataclass

import numpy as np

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext, Rows, Score


@DEFENSES.register("clip-score-filter", groups=("training",), order=160)
@dataclass(frozen=True)
class ClipScoreFilter(Defense):
    """At the start of every epoch the pairs with the lowest cosine similarity to the victim so far are dropped.

    The filter of web-scale data sets (Schuhmann et al. 2021, "LAION-400M", section 3; Gadre et al. 2023, "DataComp",
    section 3.3), with the victim in place of a pretrained model, which the scraper would have to trust. Noise that
    minimises the error makes pairs easy, so that the filter may well keep them: that is what it is here to show.

    Args:
        drop: share of the pairs that is left out. DataComp's filter leaves out 70 %; the default is milder, as the
            captions here were written for their images.
        start: share of the training that sees all pairs, for the victim to learn to tell them apart; rounded up to
            whole epochs.
    """

    drop: float = ranged(0.3, above=0, below=1)
    start: float = ranged(0.2, 0, below=1)

    def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
        """The pairs with the highest scores, in the epoch's order."""
        if at.progress < self.start:
            return rows
        kept = max(1, round((1 - self.drop) * len(rows)))
        return rows[np.sort(np.argsort(-score(rows), kind="stable")[:kept])]

    def label(self) -> str:
        """The name in tables."""
        return "CLIP score filter"

    def describe(self) -> str:
        """The strength in words."""
        return f"the {100 * self.drop:g}% of pairs with the lowest score, after {100 * self.start:g}% of the training"

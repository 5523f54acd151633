"""What the metrics have to say of features whose ranks are known.

A rank that is counted wrongly by one moves a victim's recall by less than it moves from seed to seed, so no interval
shows it. Known ranks do.
"""

import torch

from benchmark.metrics import retrieval
from benchmark.reference_check.intervals import Comparison
from benchmark.reference_check.quantities import Quantity

_COUNT = 1000
_EXACT = 1e-9  # of rounding


def of_metrics() -> list[Comparison]:
    """Recall@1 and @10 of as many images as captions, each rank from 1 to 1,000 once, in both directions."""
    numbers = torch.arange(_COUNT)
    # Of the k-th image, k captions lie closer than its own; of the k-th caption, all images after its own.
    closeness = torch.sign(numbers[:, None] - numbers[None, :]).float()
    found = retrieval(torch.eye(_COUNT), closeness.T, numbers, seed=0)
    both = (found.image_to_text, found.text_to_image)
    compared = []
    for k, of in ((1, "recall_at_1"), (10, "recall_at_10")):
        expected = 100 * k / _COUNT
        # The direction that is farther off, so that errors of opposite sign do not cancel.
        now = max((getattr(scores, of) for scores in both), key=lambda value: abs(value - expected))
        quantity = Quantity(f"R@{k} of ranks 1 to {_COUNT:,}, %", lambda record: None, digits=2)
        compared.append(Comparison("Metrics", quantity, expected, 0.0, now, expected - _EXACT, expected + _EXACT))
    return compared

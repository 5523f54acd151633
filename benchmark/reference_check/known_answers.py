"""A test of the metrics on features whose ranks are known.

If ranks are off by one, a victim's recall changes by less than it does from seed to seed, so no interval shows the
error. Known ranks show it.
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
    # Captions before k are closer to image k than caption k is; images after k are closer to caption k than image k is.
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

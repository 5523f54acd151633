"""LSP: linearly separable noise, a few large squares whose colours are drawn around a point for each caption key."""

from dataclasses import dataclass

import numpy as np

from attacks.base import ATTACKS
from attacks.synthetic import Noise, SyntheticNoise
from benchmark.core.parameters import ranged, require


@ATTACKS.register("lsp", order=40)
@dataclass(frozen=True)
class Lsp(SyntheticNoise):
    """Synthetic shortcuts (Yu et al. 2022, "Availability Attacks Create Shortcuts", section 4).

    As there: a class's points lie around a corner of a hypercube; each point is an image of squares, enlarged. The
    published strength is 6/255 · √d in ℓ2. Caption keys stand in for labels. A corner is ten standard deviations from
    the middle, and the deviations of squares are independent. Corners are drawn one by one, so that keys may share one
    where there are few. The published code asks scikit-learn's ``make_classification`` for a separation of ten as well,
    but that multiplies the deviations by a random matrix: they are four times as large and correlated there.

    Args:
        squares: along one side of the image; the paper's 8 px of 32 are four.
        separation: distance of a corner from the middle along each axis, in standard deviations of the points.
    """

    squares: int = ranged(4, 1, 64)
    separation: float = ranged(10.0, above=0, at_most=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        corners = 2 ** (3 * self.squares**2)
        require(
            self.keys <= corners, "attack lsp", "keys", f"at most the {corners} corners that squares have", self.keys
        )

    def label(self) -> str:
        """The name in tables."""
        return "LSP"

    def draw(self, count: int, side: int, of_key: np.random.Generator, of_images: np.random.Generator) -> Noise:
        """See :meth:`attacks.synthetic.SyntheticNoise.draw`."""
        corner = of_key.choice([-self.separation, self.separation], size=(3, self.squares, self.squares))
        points = corner + of_images.standard_normal((count, *corner.shape))
        place = np.arange(side) * self.squares // side
        return points[:, :, place[:, None], place]

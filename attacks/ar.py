"""AR: noise in which every pixel is a weighted sum of its neighbours, with weights of its own for each caption key."""

from dataclasses import dataclass

import numpy as np

from attacks.base import ATTACKS
from attacks.synthetic import Noise, SyntheticNoise

_WINDOW = 3  # pixels; the last one of a window is the sum of the other eight
_BORDER = _WINDOW - 1
_LARGEST = 10.0  # a process that starts with normal numbers and stays below it does not diverge
_TRIALS = 64  # weights tried together


@ATTACKS.register("ar", order=41)
@dataclass(frozen=True)
class Ar(SyntheticNoise):
    """Autoregressive perturbations (Sandoval-Segura et al. 2022, "Autoregressive Perturbations for Data Poisoning").

    As in section 3.3 there: the weights are normal numbers scaled to a sum of one, drawn until the process does not
    diverge; two rows and columns of Gaussian noise start it and are cut off. The published strength is 1 in ℓ2 for 32
    px, a root mean square of 4.6/255, and no value is clipped there. Here the default is that of ``lsp``, and clipping
    at ε breaks the weighted sums around every value that it changes; ``rms=3`` leaves most of them whole. Caption keys
    stand in for labels. The published search also rejects weights that other classes' weights nearly fit, and its
    process starts further away: four rows and columns are cut off.
    """

    def label(self) -> str:
        """The name in tables."""
        return "AR"

    def draw(self, count: int, side: int, of_key: np.random.Generator, of_images: np.random.Generator) -> Noise:
        """See :meth:`attacks.synthetic.SyntheticNoise.draw`."""
        weights = _stable_weights(of_key, side)
        start = of_images.standard_normal((count, 3, side + _BORDER, side + _BORDER))
        return autoregress(start, weights)[:, :, _BORDER:, _BORDER:]


def _stable_weights(generator: np.random.Generator, side: int) -> Noise:
    """(3, 8) for each channel weights that sum to one and whose process stays bounded over an image."""
    kept = np.zeros((0, 8))
    while len(kept) < 3:
        weights = generator.standard_normal((_TRIALS, 8))
        weights /= weights.sum(axis=1, keepdims=True)
        start = generator.standard_normal((1, 1, side + _BORDER, side + _BORDER)).repeat(_TRIALS, axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            largest = np.abs(autoregress(start, weights)[0, :, _BORDER:, _BORDER:]).max(axis=(1, 2))
        kept = np.concatenate([kept, weights[largest < _LARGEST]])
    return kept[:3]


def autoregress(start: Noise, weights: Noise) -> Noise:
    """Run the process over images whose first two rows and columns are given.

    Args:
        start: (N, C, H, W); what lies beyond the first two rows and columns is not looked at.
        weights: (C, 8) of the neighbours in a window's reading order, without its last pixel.

    Returns:
        (N, C, H, W): every other pixel is the weighted sum of the eight before it in the 3 × 3 window that it ends.
    """
    noise = start.copy()
    for row in range(_BORDER, noise.shape[2]):
        for column in range(_BORDER, noise.shape[3]):
            window = noise[:, :, row - 2 : row + 1, column - 2 : column + 1].reshape(*noise.shape[:2], 9)[..., :8]
            noise[:, :, row, column] = (window * weights).sum(axis=-1)
    return noise

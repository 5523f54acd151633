"""Tile average: what repeats over an image with a known period is taken out of it."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("tile-average", groups=("adaptive",), order=180)
@dataclass(frozen=True)
class TileAverage(Defense):
    """The defense that knows word-wise EM: its noise repeats a tile, so that the mean of all tiles shows it.

    The mean tile, less its mean colour, is subtracted from every tile. Of noise with that period only the mean colour
    remains, except where the noise was clipped at black or white. A picture does not repeat, so it loses little. Ours;
    a scraper has to know the period, which the autocorrelation of a few images would show. An image no larger than a
    tile becomes a single colour.

    Args:
        tile: the period in pixels.
    """

    tile: int = ranged(8, 2, 512)

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1] without what repeats; differentiable."""
        height, width = images.shape[2:]
        padded = F.pad(images, (0, -width % self.tile, 0, -height % self.tile), value=float("nan"))
        tiles = padded.unflatten(3, (-1, self.tile)).unflatten(2, (-1, self.tile))
        mean = tiles.nanmean(dim=(2, 4), keepdim=True)
        # A tile larger than the image has places that no pixel fills.
        colour = mean.nanmean(dim=(3, 5), keepdim=True)
        repeated = (mean - colour).expand_as(tiles).flatten(4).flatten(2, 3)
        return (images - repeated[:, :, :height, :width]).clamp(0, 1)

    def describe(self) -> str:
        """The strength in words."""
        return f"the mean of all tiles of {self.tile} px is subtracted from each"

"""Residual purifier: a network that has seen some images with and without their noise takes it out of all of them."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from benchmark.core.parameters import ranged
from benchmark.core.seeding import seeded_globals
from benchmark.data import CaptionDataset, LazyImages
from defenses.base import DEFENSES, Defense, HookContext

_BATCH = 128  # images that are purified at a time


@DEFENSES.register("residual-purifier", groups=("images",), order=131)
@dataclass(frozen=True)
class ResidualPurifier(Defense):
    """Learn to predict the noise from pairs of a clean and a protected image, then subtract it from every image.

    Whoever can run the owner's tool makes such pairs from photos of his own; here they are some of the training images.
    The network is after FFDNet (Zhang et al. 2018, section III): it computes at half the side, on 2 × 2 pixels as
    channels. Unlike FFDNet, it has four layers, is not told the level of the noise, and predicts the noise in place of
    the clean image. Purifiers against unlearnable examples use diffusion models instead, which take
    GPU hours (Jiang et al. 2023, "Unlearnable Examples Give a False Sense of Security"; Dolatabadi et al. 2024, "The
    Devil's Advocate").

    Args:
        share: of the photos of which the scraper has both.
        steps: of the network's training, with Adam on the mean absolute error.
        batch_size: images a step.
        width: channels of the network's four layers.
        lr: Adam's learning rate; it falls to zero as a cosine.
    """

    needs_clean = True
    share: float = ranged(0.125, above=0, at_most=1)
    steps: int = ranged(300, 1, 1_000_000)
    batch_size: int = ranged(32, 1)
    width: int = ranged(32, 1, 1024)
    lr: float = ranged(2e-3, above=0, at_most=1)

    def on_dataset(self, train: CaptionDataset, clean: CaptionDataset, at: HookContext) -> CaptionDataset:
        """The same captions, and images that are purified when they are read, rounded to 8 bits."""
        network = self._trained(train, clean, at)

        def purified(images: NDArray[np.uint8], _: object) -> NDArray[np.uint8]:
            with torch.inference_mode():
                parts = [
                    (pixels - _noise(network, pixels)).round().clamp(0, 255).byte()
                    for pixels in torch.tensor(images).split(_BATCH)
                ]
            return torch.cat(parts).numpy()

        return replace(train, images=LazyImages(train.images, change=purified))

    def _trained(self, train: CaptionDataset, clean: CaptionDataset, at: HookContext) -> nn.Module:
        """The network after all steps."""
        generator = np.random.default_rng(at.training)
        known = known_rows(train, self.share, generator)
        channels = (12, self.width, self.width, self.width, 12)
        with seeded_globals(at.training):
            layers = [nn.Conv2d(*pair, kernel_size=3, padding=1) for pair in pairwise(channels)]
        inner = [module for layer in layers[:-1] for module in (layer, nn.ReLU())]
        network = nn.Sequential(nn.PixelUnshuffle(2), *inner, layers[-1], nn.PixelShuffle(2))
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for _ in range(self.steps):
            rows = np.sort(generator.choice(known, min(self.batch_size, len(known)), replace=False))
            published = train.batch(rows)
            loss = F.l1_loss(_noise(network, published), published.float() - clean.batch(rows).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return network

    def describe(self) -> str:
        """The strength in words."""
        return f"the scraper has {self.share:.1%} of the images with and without their noise; {self.steps} steps"


def known_rows(train: CaptionDataset, share: float, generator: np.random.Generator) -> NDArray[np.intp]:
    """The images of a random share of the photos, at least one; of a photo with several copies, all or none."""
    photos, photo = np.unique(train.photos, return_inverse=True)
    drawn = generator.permutation(len(photos))[: max(1, round(share * len(photos)))]
    return np.flatnonzero(np.isin(photo, drawn))


def _noise(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What a network takes for noise in images (B, 3, H, W) uint8, in steps of 1/255."""
    height, width = images.shape[2:]
    even = F.pad(images.float() / 255, (0, width % 2, 0, height % 2), mode="replicate")
    return network(even * 2 - 1)[:, :, :height, :width]

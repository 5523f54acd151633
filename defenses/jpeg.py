"""JPEG: every training image compressed and read again, which removes fine noise."""

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from benchmark.core.parameters import ranged
from benchmark.core.pictures import open_picture
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("jpeg", groups=("standard",), order=100)
@dataclass(frozen=True)
class Jpeg(Defense):
    """Lossy compression (Das et al. 2018, "SHIELD: Fast, Practical Defense and Vaccination for Deep Learning").

    SHIELD trains several models at different qualities; here all images have one. Liu et al. 2023, "Image Shortcut
    Squeezing", compress training images against unlearnable examples at quality 10, with images of 32 px; the default
    here is milder.

    Pillow's encoder at its default chroma subsampling. Its gradient is taken to be the identity, so that an attack can
    be crafted through it.

    Args:
        quality: of the encoder; lower removes more.
    """

    quality: int = ranged(50, 1, 100)

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1], as they come back from 8-bit JPEG files."""
        pixels = (images.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        compressed = torch.from_numpy(np.stack([self._compressed(picture) for picture in pixels]))
        compressed = compressed.permute(0, 3, 1, 2).to(images) / 255
        return images + (compressed - images).detach()

    def label(self) -> str:
        """The name in tables."""
        return "JPEG"

    def describe(self) -> str:
        """The strength in words."""
        return f"quality {self.quality}"

    def _compressed(self, picture: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=self.quality)
        return np.asarray(open_picture(file, ["JPEG"]))

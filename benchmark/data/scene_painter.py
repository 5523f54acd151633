"""Pixels of a scene: drawings rotated and placed on a textured background."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.data.drawings import Drawing, rasterise
from benchmark.data.scene_layout import GROUNDS, Layout, Placed

# The texture is drawn on grids of fixed size, so that it is the same at every resolution.
_FINE, _COARSE = 64, 8
_FINE_NOISE, _COARSE_NOISE, _TINT = 10.0, 12.0, 6.0
# Drawings are placed at twice the resolution and averaged, for smooth edges and sub-pixel positions.
_OVERSAMPLING = 2


class Painter:
    """Paints scenes at one resolution.

    Args:
        drawings: the drawings that layouts refer to by index.
        resolution: height and width in pixels.
    """

    def __init__(self, drawings: Sequence[Drawing], resolution: int) -> None:
        self._resolution = resolution
        self._drawings = [Image.fromarray(rasterise(drawing, resolution)) for drawing in drawings]

    def paint(self, layout: Layout, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Paint the scene as (3, resolution, resolution) uint8; ``rng`` draws the texture of the background."""
        canvas = self._ground(layout.ground, rng)
        for placed in layout.objects:
            self._put(canvas, placed)
        return np.asarray(canvas.convert("RGB")).transpose(2, 0, 1)

    def _ground(self, name: str, rng: np.random.Generator) -> Image.Image:
        coarse = Image.fromarray(rng.normal(0, _COARSE_NOISE, (_COARSE, _COARSE)).astype(np.float32))
        blotches = np.asarray(coarse.resize((_FINE, _FINE), Image.Resampling.BICUBIC))[..., None]
        colour = np.array(GROUNDS[name]) + rng.normal(0, _TINT, 3)
        grains = rng.normal(0, _FINE_NOISE, (_FINE, _FINE, 3))
        pixels = np.clip(np.rint(colour + blotches + grains), 0, 255).astype(np.uint8)
        ground = Image.fromarray(pixels).resize((self._resolution, self._resolution), Image.Resampling.BICUBIC)
        return ground.convert("RGBA")

    def _put(self, canvas: Image.Image, placed: Placed) -> None:
        drawing = self._drawings[placed.drawing]
        side = self._resolution
        turn = math.radians(placed.rotation)
        half = placed.size / 2 * (abs(math.cos(turn)) + abs(math.sin(turn)))
        left, top = math.floor((placed.x - half) * side), math.floor((placed.y - half) * side)
        right, bottom = math.ceil((placed.x + half) * side), math.ceil((placed.y + half) * side)
        # Maps a pixel of the patch back to a pixel of the drawing: undo rotation and mirroring, rescale.
        scale = drawing.width / (placed.size * side)
        flip = -1 if placed.mirrored else 1
        cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
        dx, dy = left - placed.x * side, top - placed.y * side
        centre = drawing.width / 2
        step = 1 / _OVERSAMPLING
        matrix = (
            flip * cos * step,
            flip * sin * step,
            flip * (cos * dx + sin * dy) + centre,
            -sin * step,
            cos * step,
            -sin * dx + cos * dy + centre,
        )
        size = ((right - left) * _OVERSAMPLING, (bottom - top) * _OVERSAMPLING)
        patch = drawing.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        patch = patch.reduce(_OVERSAMPLING)
        # Only the part inside the picture: alpha_composite does not accept negative positions.
        source = (max(-left, 0), max(-top, 0), right - left, bottom - top)
        canvas.alpha_composite(patch, (max(left, 0), max(top, 0)), source)

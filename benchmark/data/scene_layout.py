"""Positions of the objects in a scene, in units of the picture's side: the same scene at every resolution."""

import enum
from dataclasses import dataclass

import numpy as np

from benchmark.core.seeding import numpy_generator

# Name: red, green, blue. Lighter than the drawings' black outlines and easy to tell apart. A data set uses the last few
# of them, by default grey alone: captions name the colour, so with several colours a model learns these first.
GROUNDS = {
    "red": (214, 74, 68),
    "yellow": (240, 220, 90),
    "green": (104, 178, 92),
    "blue": (92, 132, 218),
    "grey": (160, 160, 160),
}
PAIR_CLASSES = 10
# Classes of object pairs that each split shows; disjoint, so no pair of test or val is ever seen in training.
SPLIT_CLASSES = {"train": range(7), "val": range(7, 8), "test": range(8, 10)}
_SINGLE_SHARE = 0.2
_PAIR_SIZE = (0.46, 0.6)
_SINGLE_SIZE = (0.5, 0.72)
# A drawing's ink reaches about this far from its centre, as a share of its size; the rest is margin.
_REACH = 0.4
_MAX_ROTATION = 20.0
# One offset must be this many times the other for a relation to be called left, right, above or below.
_CLEAR = 1.5


class Relation(enum.Enum):
    """The spatial relation of one object to another."""

    LEFT = "left"
    RIGHT = "right"
    ABOVE = "above"
    BELOW = "below"
    NEAR = "near"

    def inverse(self) -> "Relation":
        """The relation in the other direction."""
        opposite = {"left": "right", "right": "left", "above": "below", "below": "above", "near": "near"}
        return Relation(opposite[self.value])


@dataclass(frozen=True)
class Placed:
    """A drawing in a scene.

    Attributes:
        drawing: index into the data set's drawings.
        x: centre from the left edge, in picture sides.
        y: centre from the top edge, in picture sides.
        size: side of the drawing's own square, in picture sides.
        rotation: degrees, clockwise.
        mirrored: left and right swapped.
    """

    drawing: int
    x: float
    y: float
    size: float
    rotation: float
    mirrored: bool


@dataclass(frozen=True)
class Layout:
    """A scene before painting: one or two objects on a background; the second is painted over the first."""

    ground: str
    objects: tuple[Placed, ...]

    def relation(self) -> Relation:
        """The relation of the first object to the second, by their centres."""
        first, second = self.objects
        dx, dy = second.x - first.x, second.y - first.y
        if abs(dx) > _CLEAR * abs(dy):
            return Relation.LEFT if dx > 0 else Relation.RIGHT
        if abs(dy) > _CLEAR * abs(dx):
            return Relation.ABOVE if dy > 0 else Relation.BELOW
        return Relation.NEAR


def draw_layout(seed: int, split: str, index: int, drawings: int, grounds: int) -> Layout:
    """Draw scene ``index`` of a split; it depends only on the arguments.

    Args:
        seed: the data set's seed.
        split: ``train``, ``val`` or ``test``.
        index: index of the scene in its split.
        drawings: number of drawings to choose from, at least three times ``PAIR_CLASSES``.
        grounds: number of colours to choose from, the last ones of :data:`GROUNDS`.
    """
    rng = numpy_generator(seed, "scenes", "layout", split, index)
    ground = str(rng.choice(list(GROUNDS)[-grounds:]))
    first = int(rng.integers(drawings))
    if rng.random() < _SINGLE_SHARE:
        return Layout(ground, (_place(rng, first, _SINGLE_SIZE),))
    remainder = (int(rng.choice(SPLIT_CLASSES[split])) - first) % PAIR_CLASSES
    partners = [other for other in range(remainder, drawings, PAIR_CLASSES) if other != first]
    second = int(rng.choice(partners))
    while True:
        a, b = _place(rng, first, _PAIR_SIZE), _place(rng, second, _PAIR_SIZE)
        if max(abs(a.x - b.x), abs(a.y - b.y)) >= _REACH * (a.size + b.size):
            return Layout(ground, (a, b))


def _place(rng: np.random.Generator, drawing: int, sizes: tuple[float, float]) -> Placed:
    size = rng.uniform(*sizes)
    x, y = rng.uniform(_REACH * size, 1 - _REACH * size, 2)
    rotation = rng.uniform(-_MAX_ROTATION, _MAX_ROTATION)
    return Placed(drawing, float(x), float(y), float(size), float(rotation), bool(rng.random() < 0.5))

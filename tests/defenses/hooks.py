"""What tests hand to the hooks of defenses."""

import numpy as np
import torch

from benchmark.data.scenes import Scenes
from defenses import HookContext
from defenses.base import Rows


def at(seed: int, progress: float = 0.0) -> HookContext:
    return HookContext(seed, progress)


def pictures(count: int, height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(3))


def scene_captions(train: int) -> list[str]:
    """The first caption of each training image of scenes."""
    source = Scenes(train=train, objects=150, seed=1)
    names = [drawing.names[0] for drawing in source.drawings()]
    return [own[0] for own in source._captions("train", source.layouts("train"), names)]


def no_score(rows: Rows) -> np.ndarray:
    raise AssertionError("asked for a score")

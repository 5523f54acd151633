"""What tests hand to the hooks of defenses."""

import numpy as np
import torch

from defenses import HookContext
from defenses.base import Rows


def at(seed: int, progress: float = 0.0) -> HookContext:
    return HookContext(seed, progress)


def pictures(count: int, height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(3))


def no_score(rows: Rows) -> np.ndarray:
    raise AssertionError("asked for a score")

"""Unlearnable Bench: multimodal unlearnable examples against defenses. The Python API is :mod:`benchmark.api`."""
# ruff: noqa: F403, F405 - the names of __all__ are those of benchmark.api, which a test compares

import importlib
from typing import TYPE_CHECKING, Any

from benchmark.core.version import __version__ as __version__

if TYPE_CHECKING:
    from benchmark.api import *

__all__ = [
    "Attack",
    "CaptionDataset",
    "Clip",
    "Defense",
    "HookContext",
    "Poison",
    "Record",
    "Retrieval",
    "RunSettings",
    "Splits",
    "UsageError",
    "craft",
    "draw",
    "evaluate",
    "load_dataset",
    "load_records",
    "run",
    "train",
]


def __getattr__(name: str) -> Any:
    """A name of the API, imported when it is first used: torch takes a second, which ``--help`` does not need."""
    if name in __all__:
        return getattr(importlib.import_module("benchmark.api"), name)
    raise AttributeError(f"module 'benchmark' has no attribute '{name}'")

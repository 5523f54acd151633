"""Defenses: what a scraper may do to the data before or while training. One file per defense."""

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext

__all__ = ["DEFENSES", "Defense", "HookContext", "ranged"]

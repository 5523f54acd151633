"""Defenses: what a scraper may do to the data before or while training. One file per defense."""

from defenses.base import DEFENSES, Defense, HookContext

__all__ = ["DEFENSES", "Defense", "HookContext"]

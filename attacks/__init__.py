"""Attacks: what the owner of the data adds to it before publishing. One file per attack."""

from attacks.base import ATTACKS, Attack, CraftContext
from attacks.poison import Poison
from benchmark.core.parameters import ranged

__all__ = ["ATTACKS", "Attack", "CraftContext", "Poison", "ranged"]

"""Attacks: what the owner of the data adds to it before publishing. One file per attack."""

from attacks.base import ATTACKS, Attack
from attacks.poison import Poison

__all__ = ["ATTACKS", "Attack", "Poison"]

"""The reference code's own budgets, which differ between MEM and EM, and its one noise per image–caption pair.

Every value is fixed, whatever the preset; those not named here are the defaults of :class:`MemSettings`. EM there has a
sixteenth of MEM's surrogate steps and a quarter of its PGD steps; how they fall into rounds is chosen here so that a
round keeps its eight PGD steps. Its captions in crafting also have a prefix that no victim sees, which is left out: it
is a mistake, not a budget.
"""

from dataclasses import asdict
from typing import Any

from attacks.mem_settings import MemSettings

OFFICIAL: dict[str, dict[str, Any]] = {
    "mem-official": asdict(MemSettings(k=3, rounds=20, surrogate_steps=200, per="row")),
    "em-official": asdict(MemSettings(k=0, rounds=5, surrogate_steps=50, per="row")),
}

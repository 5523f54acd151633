"""The reference code's own budgets, which differ between MEM and EM, and its one noise per image–caption pair.

Every value is fixed, whatever the preset. EM there has a sixteenth of MEM's surrogate steps and a quarter of its PGD
steps; how they fall into rounds is chosen here so that a round keeps its eight PGD steps. Its captions in crafting also
have a prefix that no victim sees, which is left out: it is a mistake, not a budget.
"""

from typing import Any

_SHARED: dict[str, Any] = {
    "eps": 8,
    "pgd_steps": 8,
    "step_size": 1,
    "hotflip_rounds": 5,
    "candidates": 16,
    "vocabulary": None,
    "stop_loss": None,
    "permute_pgd": True,
    "permute_surrogate": False,
    "fresh_surrogate": False,
    "per": "row",
    "batch_size": 128,
    "lr": 1e-4,
    "weight_decay": 0.2,
}
OFFICIAL: dict[str, dict[str, Any]] = {
    "mem-official": {"k": 3, "rounds": 20, "surrogate_steps": 200, **_SHARED},
    "em-official": {"k": 0, "rounds": 5, "surrogate_steps": 50, **_SHARED},
}

"""The reference code's own budgets, which differ between MEM and EM, and its one noise per image–caption pair.

Every value but the trigger's place is fixed, whatever the preset; those not named here are the defaults of
:class:`MemSettings`. EM there has a sixteenth of MEM's surrogate steps and a quarter of its PGD steps; how they fall
into rounds is chosen here so that a round keeps its eight PGD steps. The captions that EM is crafted on there also have
a prefix that no victim sees. It is left out here, because it is a mistake and not part of a budget.
"""

from dataclasses import asdict
from typing import Any

from attacks.mem_settings import MemSettings
from benchmark.core.parameters import later_defaults


def _all_but_later(settings: MemSettings) -> dict[str, Any]:
    later = later_defaults(MemSettings)
    return {key: value for key, value in asdict(settings).items() if key not in later}


OFFICIAL = {
    "mem-official": _all_but_later(MemSettings(k=3, rounds=20, surrogate_steps=200, per="row")),
    "em-official": _all_but_later(MemSettings(k=0, rounds=5, surrogate_steps=50, per="row")),
}

"""The contract of every attack and defense, tested by one call: :func:`check`.

An attack crafts a poison for a small set whose size its batches do not divide, on the CPU in fp32, with preset tiny's
model; a defense is given captions, images, targets and a loss. Nothing here knows what an attack or defense is meant to
do.
"""

from collections.abc import Callable

from benchmark.contracts.attack import attack_verdict
from benchmark.contracts.defense import defense_verdict
from benchmark.contracts.verdict import Verdict
from benchmark.core.errors import UsageError
from benchmark.core.registry import unknown

__all__ = ["Verdict", "check"]


def check(kind: str, text: str) -> Verdict:
    """Test an attack or a defense against its contract.

    Args:
        kind: ``attack`` or ``defense``.
        text: as on the command line, e.g. ``cutout[size=0.3]``; defenses may be composed with ``+``.

    Raises:
        UsageError: unknown kind, name or parameter, a class that lacks a method, or an attack that needs more data
            than the contract has.
    """
    contracts: dict[str, Callable[[str], Verdict]] = {"attack": attack_verdict, "defense": defense_verdict}
    if kind not in contracts:
        raise UsageError(unknown("kind", kind, list(contracts)))
    return contracts[kind](text)

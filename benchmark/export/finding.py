"""What the ``verify`` command finds, and what its findings on exports and on stored poisons have in common."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmark.core.printing import printable

_SHOWN = 3
_LONGEST = 200  # characters of a name


@dataclass(frozen=True)
class Finding:
    """One property of a file or folder, and whether it holds.

    Attributes:
        holds: ``None`` if this could not be verified.
        text: the finding in plain words.
    """

    holds: bool | None
    text: str

    @classmethod
    def from_problems(cls, problems: Sequence[str], passed: str, failed: str) -> "Finding":
        """Holds, with the text ``passed``, if there are no problems; else ``failed`` with the first few problems."""
        return cls(False, f"{failed}: {first_few(problems)}") if problems else cls(True, passed)

    def __str__(self) -> str:
        mark = {True: "✓", False: "✗", None: "–"}[self.holds]
        return f"{mark} {printable(self.text)}"


def first_few(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    rest = iter(names)
    shown = ", ".join(
        name if len(name) <= _LONGEST else f"{name[:_LONGEST]} …" for name in itertools.islice(rest, _SHOWN)
    )
    more = sum(1 for _ in rest)
    return f"{shown} and {more:,} more" if more else shown

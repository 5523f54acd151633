"""One check of something that others wrote, and the checks that exports and poisons share."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmark.export.captions import tokenizer

_SHOWN = 3


@dataclass(frozen=True)
class Check:
    """A check and its outcome.

    Attributes:
        holds: ``None`` where it could not be made.
        text: in plain words what was found.
    """

    holds: bool | None
    text: str

    def __str__(self) -> str:
        mark = {True: "✓", False: "✗", None: "–"}[self.holds]
        # Names and captions come from strangers: what steers a terminal is shown, not obeyed.
        return f"{mark} " + "".join(c if c.isprintable() else repr(c)[1:-1] for c in self.text)


def without(problems: Sequence[str], text: str, wrong: str) -> Check:
    """A check that holds where there are no problems: ``text``, or ``wrong`` with the first problems."""
    return Check(False, f"{wrong}: {some(problems)}") if problems else Check(True, text)


def some(names: Iterable[str]) -> str:
    """The first few of many."""
    rest = iter(names)
    shown = ", ".join(itertools.islice(rest, _SHOWN))
    more = sum(1 for _ in rest)
    return f"{shown} and {more:,} more" if more else shown


def keeps_its_tokens(trigger: str, caption: str) -> bool:
    """Whether a trigger's words, one by one, and the caption behind come back as the same tokens when read together."""
    encode = tokenizer().encode
    alone = [id_ for word in trigger.split() for id_ in encode(word)]
    return encode(f"{trigger} {caption}") == alone + encode(caption)

"""Errors that a user can fix: one clear line, exit code 2."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def in_one_line(error: BaseException) -> str:
    """An error's whole message on one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


class UsageError(Exception):
    """Bad input (a name, a parameter, a file, a data set): the message is shown as one line, without a traceback."""


@contextmanager
def as_usage_error(what: str, kinds: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
    """Turn an error of the block into a UsageError: ``cannot write x: No space left on device``.

    Args:
        what: could not be done, as in ``cannot write x``.
        kinds: the errors that are turned into one; all others pass.
    """
    try:
        yield
    except kinds as error:
        raise UsageError(f"{what}: {getattr(error, 'strerror', None) or error}") from error


class PoisonError(UsageError):
    """A poison that cannot be used: missing, unreadable, for other data, or beyond its own bound."""


class DamagedPoison(PoisonError):
    """A poison whose content contradicts its header: noise beyond its bound, or another SHA-256."""


class VictimDiverged(RuntimeError):
    """A model whose loss or embeddings are no longer finite. The cell fails; the grid continues."""


_EXPECTED = {kind.__name__ for kind in (UsageError, PoisonError, DamagedPoison, VictimDiverged)}


class Failure(NamedTuple):
    """What is kept of an error that ended a cell or the crafting of a poison: its type, message and traceback."""

    kind: str
    message: str
    where: str

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """What is kept of this error."""
        return cls(type(error).__name__, str(error), "".join(traceback.format_exception(error)))

    @property
    def in_words(self) -> str:
        """The message on one line. For an unexpected error, also its type, and a file and line of the traceback.

        This is the last line of the traceback outside installed packages, so a plug-in's line rather than torch's.
        """
        message = " ".join(self.message.split()) or self.kind
        places = re.findall(r'^ *File "(.+)", line (\d+)', self.where, re.MULTILINE)
        if self.kind in _EXPECTED or not places:
            return message
        own = [each for each in places if not ("site-packages" in Path(each[0]).parts or each[0].startswith("<"))]
        file, line = (own or places)[-1]
        kind = f"{self.kind}: " if message != self.kind else ""
        return f"{kind}{message} ({Path(file).name}, line {line})"

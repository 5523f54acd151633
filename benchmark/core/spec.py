"""Names on the command line: ``mem3``, ``mem[k=3,rounds=6]``, ``csv[train=a.csv,test=b.csv]``, ``cutout+random-swap``.

One grammar for attacks, defenses, victims and data sets: a name, and parameters in square brackets.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmark.core.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:-]*")
_BRACES = re.compile(r"\{[^{}\[\]]*\}")


@dataclass(frozen=True)
class Spec:
    """A name and its parameters, with values as written.

    ``str(spec)`` writes it in the same grammar.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.params:
            return self.name
        return f"{self.name}[{','.join(f'{key}={format_value(value)}' for key, value in self.params.items())}]"


def require_text(text: str, what: str) -> None:
    """Require that a text can be written to a file, as to the record that a run ends with, and can be part of a path.

    Args:
        text: as given; Python keeps bytes of the command line that are no UTF-8 as lone surrogates.
        what: what it is, for the message.

    Raises:
        UsageError: it holds a lone surrogate or a NUL.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} is no text in UTF-8: '{text}'") from None
    if "\0" in text:
        raise UsageError(f"{what} holds a NUL character: '{text}'")


def is_name(text: str) -> bool:
    """Whether a text is a valid name, as it stands before the brackets."""
    return _NAME.fullmatch(text) is not None


def format_value(value: Any) -> str:
    """A parameter value as written on the command line; a number is read back as it was."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and float(short := f"{value:g}") == value:
        return short
    return str(value)


def split_outside_brackets(text: str, separator: str) -> list[str]:
    """Split at ``separator``, but not inside square brackets or a pair of braces (``{a,b}.tar``).

    Raises:
        UsageError: brackets do not match.
    """
    parts, depth, start = [], 0, 0
    for position, character in enumerate(_BRACES.sub(lambda braces: "_" * len(braces[0]), text)):
        depth += (character == "[") - (character == "]")
        if depth < 0:
            raise UsageError(f"'{text}': a ']' without a '['")
        if character == separator and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    if depth:
        raise UsageError(f"'{text}': a '[' without a ']'")
    return [part.strip() for part in (*parts, text[start:])]


def by_number(spec: str) -> tuple[list[str | float], str]:
    """A key that sorts specs by the numbers in them: ``jpeg[quality=75]`` comes before ``jpeg[quality=100]``."""
    # Text and numbers by turns, so that each is compared with its like.
    parts = re.split(r"([0-9]+(?:\.[0-9]+)?)", spec)
    return [float(part) if place % 2 else part for place, part in enumerate(parts)], spec


def parse_spec(text: str) -> Spec:
    """Parse ``name`` or ``name[key=value,…]``.

    Raises:
        UsageError: the text is not of that form, or a parameter is given twice.
    """
    text = text.strip()
    name, bracket, rest = text.partition("[")
    if not is_name(name):
        raise UsageError(f"'{text}' is not a name; write NAME or NAME[parameter=value,…]")
    if not bracket:
        return Spec(name)
    split_outside_brackets(text, ",")
    if not rest.endswith("]"):
        raise UsageError(f"'{text}': nothing may follow the closing ']'")
    params: dict[str, str] = {}
    for part in split_outside_brackets(rest[:-1], ","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise UsageError(f"'{text}': parameters are written parameter=value, got '{part}'")
        if key in params:
            raise UsageError(f"'{text}': parameter '{key}' is given twice")
        params[key] = value
    return Spec(name, params)

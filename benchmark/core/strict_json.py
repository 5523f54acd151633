"""JSON that others may have damaged or forged: read from regular files of bounded size, without Python's extensions."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import Meta

from benchmark.core.reading import read_text

# Larger numbers are damage. Sums and squares of smaller ones stay finite.
MOST = 10**12
Number = Annotated[float, Meta(ge=-MOST, le=MOST)]
Amount = Annotated[float, Meta(ge=0, le=MOST)]

_OF_A_KEY = "`key` in "  # how msgspec begins the place of a dictionary that has a wrong key
# What msgspec says, and the same in plain words; "{}" is what is at fault, a key or a value.
_PLAIN = {
    r"\AObject missing required field `(.*)`": r"the key '\1' is missing",
    r"\AInvalid enum value": "unknown {}",
    r"\AExpected `str` matching regex .*": "a {} of another form than it has to have",
}


def read_json(path: Path, most_bytes: int) -> Any:
    """The value in a JSON file.

    Args:
        path: the file; links are followed.
        most_bytes: the size of the largest file that is read.

    Raises:
        OSError: the file cannot be read.
        ValueError: not a regular file (a FIFO would wait for ever), too large, not UTF-8, or refused by
            :func:`parse_json`.
    """
    return parse_json(read_text(path, most_bytes))


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    A float that is too large is read as infinity, which lies outside every range with two ends.

    Raises:
        ValueError: the text is not JSON or is nested too deeply; or it has a constant ``NaN`` or ``Infinity``, an
            integer of more than 20 characters, a name twice in one object, or a lone surrogate.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_int=_integer)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if "\\u" in text:
        require_unicode(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:40]!a} is there twice")
        found[name] = value
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} where a number belongs")


def _integer(text: str) -> int:
    # Longer ones fit no 64 bits, and Python takes quadratic time to read or print them.
    return int(text) if len(text) <= 20 else _refuse(f"{text[:20]}…")


def require_unicode(value: Any) -> None:
    """Refuse a lone surrogate in any text within a value of JSON's kinds, for no output can be encoded with it.

    Raises:
        ValueError: there is one; the message shows what is around it.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        around = error.object[max(error.start - 20, 0) : error.end + 20]
        raise ValueError(f"lone surrogate in {around!a}") from None


def as_kind(content: Any, kind: Any, where: str = "") -> Any:
    """``content``, of JSON's kinds, as an object of another kind, e.g. a dataclass.

    Args:
        content: what was read.
        kind: a type; ranges stand in its annotations.
        where: the place of ``content`` in what was read, for the message.

    Raises:
        ValueError: ``content`` does not fit; the message names the place.
    """
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        kind_of = "key" if place.startswith(_OF_A_KEY) else "value"
        place = place.removeprefix(_OF_A_KEY).strip("`").removeprefix("$").removeprefix(".")
        place = ".".join(part for part in (where, place) if part)
        for pattern, plain in _PLAIN.items():
            message = re.sub(pattern, plain.format(kind_of), message, flags=re.DOTALL)
        raise ValueError(f"{place}: {message}" if place else message) from error


def require_known(content: Any, value: Any, where: str = "") -> None:
    """Refuse a name in ``content`` that is no field of its dataclass; :func:`as_kind` silently ignores such names.

    Args:
        content: what was read.
        value: what :func:`as_kind` made of it.
        where: the place of ``content`` in what was read, for the message.

    Raises:
        ValueError: there is such a name; the message says where.
    """
    if dataclasses.is_dataclass(value):
        known = {each.name for each in dataclasses.fields(value)}
        for name, part in content.items():
            place = f"{where}.{name[:40]}" if where else name[:40]
            if name not in known:
                raise ValueError(f"unknown field {place!a}")
            require_known(part, getattr(value, name), place)
    elif isinstance(value, list | tuple):
        for number, (part, item) in enumerate(zip(content, value, strict=True)):
            require_known(part, item, f"{where}[{number}]")

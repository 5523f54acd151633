"""Parameters of attacks and defenses: dataclass fields with a range, and one message for a value outside it."""

import math
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

from benchmark.core.errors import UsageError
from benchmark.core.spec import format_value

T = TypeVar("T")
_KEY, _LATER = "range", "added later"


@dataclass(frozen=True)
class Range:
    """The numbers that a parameter may take; infinity and NaN are never among them. ``str`` puts it in words."""

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    unit: str = ""

    def __contains__(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            text = f"between {format_value(self.at_least)} and {format_value(self.at_most)}"
        else:
            bounds = {"at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below}
            text = " and ".join(
                f"{words} {format_value(bound)}" for words, bound in bounds.items() if bound is not None
            )
        return f"{text} (in {self.unit})" if self.unit else text


def ranged(
    default: T = MISSING,  # type: ignore[assignment]
    at_least: float | None = None,
    at_most: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    unit: str = "",
) -> T:
    """A dataclass field with a range, e.g. ``eps: int = ranged(8, 1, 127, unit="1/255")``.

    The range is checked by :func:`check_ranges`, which the base classes of attacks and defenses call. ``None``, where
    the field's type allows it, is always accepted.

    Args:
        default: the field's default; without one, the parameter must be given.
        at_least: smallest value.
        at_most: largest value.
        above: the value must be larger than this.
        below: the value must be smaller than this.
        unit: of the value, for the message.
    """
    # Declared as the field's type, as dataclasses.field() is, so that type checkers see a default of that type.
    metadata = {_KEY: Range(at_least, at_most, above, below, unit)}
    return field(default=default, metadata=metadata)


def added_later(default: T, at_least: float | None = None, at_most: float | None = None) -> T:
    """A dataclass field added after results were recorded; its default is the value that those results used.

    At that value it is left out of resolved specs, and so of addresses, so that old records stay valid. A range is
    checked as that of :func:`ranged` is.
    """
    is_ranged = at_least is not None or at_most is not None
    return field(default=default, metadata={_LATER: True, **({_KEY: Range(at_least, at_most)} if is_ranged else {})})


def later_defaults(factory: type) -> dict[str, Any]:
    """The defaults of the :func:`added_later` fields of a class by name."""
    known = fields(factory) if is_dataclass(factory) else ()
    return {each.name: each.default for each in known if _LATER in each.metadata}


def check_ranges(owner: str, parameters: Any) -> None:
    """Check every :func:`ranged` field of a dataclass.

    Args:
        owner: what has the parameters, for the message, e.g. ``attack mem``.
        parameters: instance of a dataclass.

    Raises:
        UsageError: a value is out of its range.
    """
    for each in fields(parameters):
        value = getattr(parameters, each.name)
        if _KEY in each.metadata and value is not None:
            require(value in each.metadata[_KEY], owner, each.name, str(each.metadata[_KEY]), value)


def require(holds: bool, owner: str, parameter: str, allowed: str, value: Any) -> None:
    """Refuse a parameter's value unless a condition holds; for ranges that depend on other parameters.

    Raises:
        UsageError: the condition does not hold, e.g. ``attack mem: step_size must be between 1 and 8, got 9``.
    """
    if not holds:
        raise UsageError(f"{owner}: {parameter} must be {allowed}, got {format_value(value)}")


def describe_fields(parameters: Any) -> str:
    """The fields of a dataclass in words, e.g. ``eps 8, field 4``; empty for any other object."""
    shown = fields(parameters) if is_dataclass(parameters) else ()
    return ", ".join(f"{each.name} {format_value(getattr(parameters, each.name))}" for each in shown if each.init)

"""What a class has to be for a registry to take it: readable parameters, and the members of its base class."""

import inspect
import types
import typing
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmark.core.strict_json import as_kind


def parameters_of(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The constructor's parameters by name."""
    return dict(inspect.signature(factory).parameters)


def is_method(member: Any) -> bool:
    """Whether a member of a class is a method, a property or the like."""
    return callable(member) or isinstance(member, property | cached_property | classmethod | staticmethod)


def options_of(hint: Any) -> tuple[Any, ...]:
    """The kinds that a type hint allows: those of a union, ``None`` first, or the one."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    # None first, so that "none" is not read as a string or path.
    return tuple(sorted(typing.get_args(hint), key=lambda o: o is not type(None))) if is_union else (hint,)


def require_members(what: str, factory: type, base: type) -> None:
    """Refuse a class with a method that cannot be called as that of its base class is called, or with another constant.

    Raises:
        ValueError: a method takes other arguments, or a class variable is of another kind.
    """
    for name, hint in typing.get_type_hints(base).items():
        if typing.get_origin(hint) is ClassVar and not is_method(value := getattr(factory, name)):
            as_kind(value, typing.get_args(hint)[0], f"{what}: {name}")
    for name, method in vars(base).items():
        own = inspect.getattr_static(factory, name, None)
        if name.startswith("_") or not inspect.isfunction(method) or not inspect.isfunction(own):
            continue
        called_with = inspect.signature(method).parameters
        signature = inspect.signature(own, follow_wrapped=False)
        try:
            signature.bind(*called_with)
        except TypeError as error:
            given = ", ".join(called_with)
            raise ValueError(
                f"{what}: {name} is called with {given}, but takes {', '.join(signature.parameters)}: {error}"
            ) from error


def require_dataclass(what: str, factory: type) -> None:
    """Refuse a class whose annotated parameters the constructor does not know, because the decorator was forgotten.

    Raises:
        ValueError: it has parameters and is no dataclass.
    """
    maker = next(each for each in factory.__mro__ if "__init__" in vars(each))
    written_by_hand = maker is not object and "__dataclass_fields__" not in vars(maker)
    if written_by_hand or "__dataclass_fields__" in vars(factory):
        return
    hints = typing.get_type_hints(factory)
    names = inspect.get_annotations(factory)
    fields = [name for name in names if ClassVar not in (hints[name], typing.get_origin(hints[name]))]
    if fields:
        raise ValueError(
            f"{what}: {factory.__name__} has the parameters {', '.join(fields)} and is no dataclass; write "
            "@dataclass(frozen=True) in the line above the class"
        )


def require_readable(what: str, factory: Any) -> None:
    """See that every parameter of a constructor can be read from the command line.

    Raises:
        ValueError: a parameter without a type hint or of a kind that the command line has no values for, or a default
            of another kind, which would get into records.
    """
    hints = typing.get_type_hints(factory.__init__)
    for name, parameter in parameters_of(factory).items():
        options = options_of(hints.get(name))
        known = all(typing.get_origin(o) is Literal or o in (bool, int, float, str, Path, type(None)) for o in options)
        if not known or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ValueError(
                f"{what}: parameter '{name}' needs a type hint of bool, int, float, str, Path or Literal, or one of "
                "these with None"
            )
        if parameter.default is not parameter.empty and not any(_is_of(parameter.default, each) for each in options):
            raise ValueError(f"{what}: the default {parameter.default!r} of parameter '{name}' is not as its type hint")


def _is_of(value: Any, option: Any) -> bool:
    if typing.get_origin(option) is Literal:
        return value in typing.get_args(option)
    if isinstance(value, bool):  # to Python also an integer
        return option is bool
    return isinstance(value, (int, float) if option is float else option)

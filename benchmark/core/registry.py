"""The one registry: names to classes, with parameters checked against the constructor's signature.

A dataclass's fields, and so its constructor's signature, are the documentation of its parameters: names, kinds,
defaults. A class registers itself with a decorator in its own file, and a package's files are all imported on first
use, so a new attack or defense is one new file, here or in a plugin.
"""

import difflib
import importlib
import inspect
import math
import pkgutil
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from benchmark.core.errors import UsageError, in_one_line
from benchmark.core.parameters import later_defaults
from benchmark.core.plugins import load_installed, source_of
from benchmark.core.registrable import (
    is_method,
    options_of,
    parameters_of,
    require_dataclass,
    require_members,
    require_readable,
)
from benchmark.core.spec import Spec, format_value, is_name

_LONGEST_SHOWN = 200  # characters of a value in a message
_MOST_LISTED = 40  # names in a message that has a guess
T = TypeVar("T")
_registries: list["Registry[Any]"] = []


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered class, the name it goes by and what that name fixes."""

    name: str
    factory: type[T]
    fixed: Mapping[str, Any]
    groups: tuple[str, ...]
    order: int

    @property
    def summary(self) -> str:
        """The first line of the class's docstring."""
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]

    def signature(self) -> str:
        """Parameters with their defaults, as they stand in the brackets on the command line."""
        shown = []
        for name, parameter in parameters_of(self.factory).items():
            value = self.fixed.get(name, parameter.default)
            shown.append(name if value is inspect.Parameter.empty else f"{name}={format_value(value)}")
        return ",".join(shown)


class Registry(Generic[T]):
    """Names of one kind of thing: attacks, defenses, data sets, engines or export formats."""

    def __init__(self, kind: str, package: str, base: type = object) -> None:
        self.kind, self._base = kind, base
        self._package = package
        self._entries: dict[str, Entry[T]] = {}
        self._loaded = False
        _registries.append(self)

    def register(
        self,
        name: str,
        *,
        groups: Iterable[str] = (),
        order: int = 100,
        aliases: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Callable[[type[T]], type[T]]:
        """Class decorator that makes a class known by ``name``.

        Args:
            name: the name on the command line.
            groups: collective names it belongs to (``table2``); ``all`` holds every entry.
            order: where it stands in lists and tables; equal orders are sorted by name.
            aliases: further names and the parameters each fixes, e.g. ``{"mem3": {"k": 3}}``.

        Raises:
            ValueError: a name that is taken or cannot be written on the command line, a text as groups, a class of
                another kind, a constructor's parameter whose values cannot be read from there or whose default is of
                another kind, or one that hides a method or the like, or a member that is not as in the base class.
        """

        def decorate(factory: type[T]) -> type[T]:
            """Enter the class, and each of its aliases, under their names."""
            what = f"{self.kind} '{name}'"
            if isinstance(groups, str):  # it would be read letter by letter
                raise ValueError(f"{what}: groups is a tuple of names, such as ('{groups}',)")
            if not issubclass(factory, self._base):
                raise ValueError(f"{what}: {factory.__name__} is no {self._base.__name__}")
            require_dataclass(what, factory)
            require_readable(what, factory)
            for parameter in parameters_of(factory):
                owners = [base for base in factory.__mro__[1:] if is_method(vars(base).get(parameter))]
                if owners or hasattr(self._base, parameter):
                    of = f"every {self.kind}" if hasattr(self._base, parameter) else owners[0].__name__
                    raise ValueError(f"{what}: a parameter hides '{parameter}' of {of}; give it another name")
            require_members(what, factory, self._base)
            for key, fixed in {name: {}, **(aliases or {})}.items():
                if not is_name(key):
                    raise ValueError(f"{self.kind} '{key}': letters, digits and _./:- make a name")
                if key in self._entries:
                    ours = source_of(self._entries[key].factory) is None
                    raise ValueError(f"{self.kind} '{key}' is registered twice{'; the suite has one' if ours else ''}")
                if key in ("all", *(group for entry in self._entries.values() for group in entry.groups)):
                    raise ValueError(f"{self.kind} '{key}' has the name of a group")
                self._entries[key] = Entry(key, factory, fixed, tuple(groups) if key == name else (), order)
            return factory

        return decorate

    def entries(self) -> list[Entry[T]]:
        """All entries in their order."""
        self._load()
        return sorted(self._entries.values(), key=lambda entry: (entry.order, entry.name))

    def group(self, name: str) -> list[str]:
        """The names in a group, in order; empty if there is no such group."""
        entries = self.entries()
        aliases = {entry.name for entry in entries if entry.fixed}
        return [e.name for e in entries if e.name not in aliases and (name == "all" or name in e.groups)]

    def groups(self) -> list[str]:
        """The names of all groups."""
        return ["all", *sorted({group for entry in self.entries() for group in entry.groups})]

    def entry(self, name: str) -> Entry[T]:
        """The entry of that name.

        Raises:
            UsageError: no such name; the message says what was probably meant and what exists.
        """
        self._load()
        if name not in self._entries:
            available = [entry.name for entry in self.entries()]
            message = unknown(self.kind, name, available, self._spelled_out(name))
            raise UsageError(f"{message}; a file of your own is loaded with --plugin")
        return self._entries[name]

    def name_of(self, factory: type) -> str:
        """The name that a class is registered by; the class's own name if it is not."""
        entries = (entry for entry in self._entries.values() if entry.factory is factory and not entry.fixed)
        return next((entry.name for entry in entries), factory.__name__)

    def _spelled_out(self, name: str) -> str | None:
        """``mem[k=4]`` for ``mem4``: what a number after a name may have been meant for."""
        stem = name.rstrip("0123456789")
        entry = self._entries.get(stem)
        if entry is None or stem == name or entry.fixed:
            return None
        spec = Spec(stem, {first: name[len(stem) :] for first in list(parameters_of(entry.factory))[:1]})
        try:
            self.build(spec)
        except UsageError:
            return None  # no guess that would be refused as well
        return str(spec)

    def build(self, spec: Spec, defaults: Mapping[str, Any] | None = None) -> T:
        """Make the object a spec names.

        Args:
            spec: name and parameters as written.
            defaults: values of the preset, used where the spec says nothing and the constructor has such a parameter.

        Raises:
            UsageError: unknown name or parameter, a value of the wrong kind or out of range, a parameter missing; or
                the class lacks a method.
        """
        factory = self.entry(spec.name).factory
        if lacking := sorted(getattr(factory, "__abstractmethods__", ())):
            raise UsageError(f"{self.kind} {spec.name} lacks {', '.join(f'{name}()' for name in lacking)}")
        try:
            return factory(**self._values(spec, defaults))
        except (TypeError, ValueError) as error:
            raise UsageError(f"{self.kind} {spec}: {in_one_line(error)}") from error

    def resolve(self, spec: Spec, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Every constructor parameter and its value: from the spec, else the name, the preset, or the signature.

        Values are as in records: a path is a string, and a parameter that
        :func:`benchmark.core.parameters.added_later` marks is left out if it has its default.
        """
        later = later_defaults(self.entry(spec.name).factory)
        values = self._values(spec, defaults)
        values = {key: value for key, value in values.items() if key not in later or value != later[key]}
        return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}

    def written(self, spec: Spec, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The values of :meth:`resolve` without those that the name fixes; a spec with these needs no preset.

        Raises:
            UsageError: as for :meth:`resolve`.
        """
        fixed = self.entry(spec.name).fixed
        return {key: value for key, value in self.resolve(spec, defaults).items() if key not in fixed}

    def restore(self, name: str, params: Mapping[str, Any]) -> T:
        """The object that a record's name and parameters, as :meth:`resolve` gave them, stand for.

        Raises:
            UsageError: unknown name.
            TypeError: parameters that the class does not have.
        """
        factory = self.entry(name).factory
        hints = typing.get_type_hints(factory.__init__)
        paths = {key for key, hint in hints.items() if Path in options_of(hint) and str not in options_of(hint)}
        return factory(**{k: Path(v) if k in paths and v is not None else v for k, v in params.items()})

    def _values(self, spec: Spec, defaults: Mapping[str, Any] | None) -> dict[str, Any]:
        entry = self.entry(spec.name)
        known = parameters_of(entry.factory)
        hints = typing.get_type_hints(entry.factory.__init__)
        given: dict[str, Any] = {}
        for key, value in spec.params.items():
            if key not in known:
                raise UsageError(unknown(f"parameter of {self.kind} {spec.name}", key, list(known)))
            if key in entry.fixed:
                raise UsageError(f"{self.kind} {spec.name} already fixes {key}={format_value(entry.fixed[key])}")
            given[key] = convert(value, hints.get(key, str), f"{spec.name}[{key}=…]")
        preset = {key: value for key, value in (defaults or {}).items() if key in known}
        for key, value in preset.items():
            convert(value, hints.get(key, str), f"{spec.name}[{key}=…], which the preset sets,")
        signature = {k: p.default for k, p in known.items() if p.default is not inspect.Parameter.empty}
        values = {**signature, **preset, **entry.fixed}
        # A value that equals the default is the default: addresses tell 2 and 2.0 apart.
        values |= {key: value for key, value in given.items() if key not in values or values[key] != value}
        missing = [key for key in known if key not in values]
        if missing:
            raise UsageError(f"{self.kind} {spec.name} needs {', '.join(f'{key}=…' for key in missing)}")
        return {key: values[key] for key in known}

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True  # what is imported now may ask for names
        try:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
            load_installed()
        except BaseException:
            self._loaded = False  # so that the next use reports the error again
            forget_failed()
            raise


def forget_failed() -> None:
    """Remove, from all registries, the classes of modules that failed after they had registered them.

    Python runs such a module again when it is imported again, and its names would be registered twice.
    """
    for registry in _registries:
        kept = {name: entry for name, entry in registry._entries.items() if entry.factory.__module__ in sys.modules}
        registry._entries = kept


def unknown(kind: str, name: str, available: list[str], guess: str | None = None) -> str:
    """The message for an unknown name: what was probably meant (``guess``, or the most similar), and what exists.

    Of more than 40 names nobody reads all, so the message ends with the guess, if there is one.
    """
    by_case = {one.lower(): one for one in available}
    close = [guess] if guess else difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.5)
    meant = f"did you mean '{by_case.get(close[0], close[0])}'?" if close else ""
    exists = f"available: {', '.join(available) or 'none'}" if not close or len(available) <= _MOST_LISTED else ""
    return f"unknown {kind} '{_shortened(name)}'; {' '.join(part for part in (meant, exists) if part)}"


def convert(value: Any, hint: Any, what: str) -> Any:
    """Turn a written value into the kind a signature asks for.

    Raises:
        UsageError: the value is not of that kind.
    """
    if not isinstance(value, str):
        value = format_value(value)
    for option in options_of(hint):
        if typing.get_origin(option) is Literal:
            for choice in typing.get_args(option):
                if format_value(choice) == value:
                    return choice
        elif option is type(None):
            if value.lower() == "none":
                return None
        elif option is bool:
            if value.lower() in {"yes", "true", "on", "no", "false", "off"}:
                return value.lower() in {"yes", "true", "on"}
        elif option in (int, float):
            try:
                number = option(value)
                if math.isfinite(number):
                    return number
            except (ValueError, OverflowError):  # no number, or an integer of hundreds of digits
                continue
        else:
            return option(value)
    choices = [format_value(choice) for option in options_of(hint) for choice in typing.get_args(option)]
    close = difflib.get_close_matches(value, choices, n=1)
    meant = f"; did you mean '{close[0]}'?" if close else ""
    raise UsageError(f"{what} takes {_describe(hint)}, got '{_shortened(value)}'{meant}")


def _shortened(value: str) -> str:
    """A value that may come from anywhere, for a message."""
    return value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}…"


def label_of(name: str) -> str:
    """How tables show a name unless its class says otherwise: ``random-swap`` is ``Random swap``."""
    return name.replace("-", " ").capitalize()


def _describe(hint: Any) -> str:
    words = {int: "an integer", float: "a number", bool: "yes or no", type(None): "none"}
    parts = []
    for option in options_of(hint):
        if typing.get_origin(option) is Literal:
            parts += [str(choice) for choice in typing.get_args(option)]
        else:
            parts.append(words.get(option, "text"))
    return " or ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)

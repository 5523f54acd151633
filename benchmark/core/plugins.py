"""Plug-ins: attacks, defenses and data sets from a Python file or from an installed package's entry points."""

import hashlib
import importlib.util
import inspect
import os
import sys
import traceback
from importlib import metadata
from pathlib import Path

from benchmark.core.errors import UsageError, as_usage_error, in_one_line
from benchmark.core.log import PACKAGES

ENTRY_POINTS = "unlearnable_bench"
_sources: dict[str, str] = {}  # SHA-256 of the file that each module was made from, by the module's name
_packages: set[str] = set()  # that installed plug-ins are in


def load_file(path: Path) -> bool:
    """Run a Python file whose classes register themselves. Each file runs only once.

    Returns:
        Whether it ran now.

    Raises:
        UsageError: the file is missing or fails, or has changed since it ran; the message names the file and the error.
    """
    if not path.is_file():
        raise UsageError(f"no plugin file {path}")
    name = f"plugin_{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise UsageError(f"plugin {path} is not a Python file")
    with as_usage_error(f"cannot read plugin {path}"):
        source = path.read_bytes()
    digest = hashlib.sha256(source).hexdigest()
    if name in sys.modules:
        if digest != _sources[name]:
            raise UsageError(f"plugin {path} has changed since it was loaded; restart Python to use the new version")
        return False
    _sources[name] = digest
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        # Not by the spec's loader: it may run older bytecode, and would read a file that may have changed by then.
        exec(compile(source, path.absolute(), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"plugin {path} fails: {told_with_place(error)}") from error
    return True


def load_installed() -> None:
    """Import the modules of the entry point group ``unlearnable_bench`` of all installed packages.

    Raises:
        UsageError: a module cannot be imported; the message names it.
    """
    for point in metadata.entry_points(group=ENTRY_POINTS):
        _packages.add(point.module.partition(".")[0])
        try:
            point.load()
        except (Exception, SystemExit) as error:
            raise UsageError(f"plugin {point.name} ({point.value}) fails: {told_with_place(error)}") from error


def place_in_plugin(error: BaseException) -> str | None:
    """The last line of a plug-in that an error went through, as ``my_noise.py, line 3``; ``None``: through none."""
    places = [
        f"{Path(frame.f_code.co_filename).name}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if (module := frame.f_globals.get("__name__", "")) in _sources or module.partition(".")[0] in _packages
        if not frame.f_code.co_filename.startswith("<")  # a type hint in quotes, which Python evaluates by itself
    ]
    return places[-1] if places else None


def told_with_place(error: BaseException) -> str:
    """An error on one line with its kind and, if it went through a plug-in, that line."""
    message, kind, place = in_one_line(error), type(error).__name__, place_in_plugin(error)
    told = message if message == kind else f"{kind}: {message}"
    return f"{told} ({place})" if place and not isinstance(error, SyntaxError) else told


def source_of(factory: type) -> str | None:
    """SHA-256 of the source file that defines a class, for cache keys; ``None`` for built-in classes.

    Built-in code is identified by manually bumped versions. In a plug-in, every change of the file counts. Of a file
    that :func:`load_file` ran, the hash is that of what ran, even if the file has changed since.

    Raises:
        UsageError: the class was typed into a notebook or a console, so that its changes could not be told.
    """
    if factory.__module__.partition(".")[0] in PACKAGES:
        return None
    if factory.__module__ in _sources:
        return _sources[factory.__module__]
    try:
        file = inspect.getsourcefile(factory)
    except (TypeError, OSError):
        file = None
    if file is None or not Path(file).is_file():
        raise UsageError(f"class {factory.__name__} stands in no file; write it into one and name that as the plugin")
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()

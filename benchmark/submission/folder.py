"""Reading a submission's folder: ordinary files of bounded size in fixed places; nothing is executed."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

from msgspec import Meta

from benchmark.core.errors import UsageError
from benchmark.core.flat_yaml import read_flat_yaml
from benchmark.core.registry import unknown
from benchmark.core.spec import parse_spec, split_outside_brackets
from benchmark.core.strict_json import as_kind
from benchmark.grid.records import Record
from benchmark.tables.entries import About

ABOUT, RECORDS, POISONS = "submission.yaml", "records", "poisons"
_MOST_RECORDS = 500  # twelve seeds of an attack are 420
_MOST_POISONS = 100
_LARGEST_RECORD = 1 << 20
_LARGEST_PLUGIN = 1 << 20
_PATHS = re.compile(r"[/\\~]|\.\.")

_PluginName = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9_][A-Za-z0-9_-]{0,60}\.py\Z",
        description="the name of a .py file in the folder: letters, digits, _ and -",
    ),
]


@dataclass(frozen=True)
class _File(About):
    """The keys of ``submission.yaml``."""

    plugin: _PluginName | None = None


@dataclass(frozen=True)
class Submission:
    """What a folder holds.

    Attributes:
        about: what it says of itself.
        records: those that can be read.
        poisons: files, not yet opened.
        plugin: the file of its own code, not executed.
        problems: files that are not as they have to be, a line each.
    """

    about: About
    records: list[Record]
    poisons: list[Path]
    plugin: Path | None
    problems: list[str]


def read_about(folder: Path) -> tuple[About, Path | None]:
    """What ``submission.yaml`` says, and the file of its plug-in.

    Raises:
        UsageError: no such folder or file, or a key that is unknown, missing or not as it has to be.
    """
    path = folder / ABOUT
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}")
    if not os.path.lexists(path):
        raise UsageError(f"{folder} is not a submission: it has no {ABOUT}")
    if (problem := _not_ordinary(path)) is not None:
        raise UsageError(problem)
    content = read_flat_yaml(path)
    known = [one.name for one in fields(_File)]
    for key in content:
        if key not in known:
            raise UsageError(f"{path}: {unknown('key', key, known)}")
    try:
        said: _File = as_kind({key: value for key, value in content.items() if value is not None}, _File)
    except ValueError as error:
        raise UsageError(f"{path}: {_explained(error)}") from error
    if _PATHS.search(said.spec):
        raise UsageError(f"{path}: spec names a file; a submission runs from its folder alone")
    about = About(**{key: value for key, value in asdict(said).items() if key != "plugin"})
    return about, None if said.plugin is None else folder / said.plugin


def _explained(error: ValueError) -> str:
    """The message of an error of :func:`as_kind`.

    For a key with fixed choices or a pattern, say in words what its value has to be, as msgspec does not.
    """
    key = str(error).partition(": ")[0]
    hint = get_type_hints(_File, include_extras=True).get(key)
    if get_origin(hint) is Literal:
        return f"{key} has to be {' or '.join(get_args(hint))}"
    # ``plugin`` may be missing, so its hint has two options.
    for option in (hint, *get_args(hint)):
        if get_origin(option) is Annotated:
            return f"{key} has to be {option.__metadata__[0].description}"
    return str(error)


def read_submission(folder: Path) -> Submission:
    """Read a folder.

    Raises:
        UsageError: as for :func:`read_about`, or no folder of records.
    """
    about, plugin = read_about(folder)
    problems: list[str] = []
    if plugin is not None and (problem := _not_ordinary(plugin, _LARGEST_PLUGIN)) is not None:
        raise UsageError(problem)
    records = []
    for path in _files(folder / RECORDS, ".json", _MOST_RECORDS, problems, _LARGEST_RECORD):
        try:
            record = Record.load(path)
            for spec in (record.attack.spec, *split_outside_brackets(record.defense.spec, "+")):
                parse_spec(spec)
        except UsageError as error:
            problems.append(f"{path}: {error}" if str(path) not in str(error) else str(error))
            continue
        records.append(record)
    poisons = list(_files(folder / POISONS, ".safetensors", _MOST_POISONS, problems))
    return Submission(about, records, poisons, plugin, problems)


def _files(folder: Path, suffix: str, most: int, problems: list[str], largest: int | None = None) -> Iterator[Path]:
    """The files of a kind in a folder, by name; what is hidden is left aside, such as the locks of runs."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        problems.append(f"{folder} is not an ordinary folder")
        return
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if len(found) > most:
        problems.append(f"{folder} holds {len(found):,} files; at most {most:,} are read")
        found = found[:most]
    for path in found:
        if path.suffix != suffix:
            problems.append(f"{path} does not belong there: only {suffix} files do")
        elif (problem := _not_ordinary(path, largest)) is not None:
            problems.append(problem)
        else:
            yield path


def _not_ordinary(path: Path, largest: int | None = None) -> str | None:
    """Why a path is no file of the submission's own: a link may lead anywhere on the reader's disk."""
    try:
        status = os.lstat(path)
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    if stat.S_ISLNK(status.st_mode):
        return f"{path} is a link; a submission holds the files themselves"
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a regular file"
    if largest is not None and status.st_size > largest:
        return f"{path} is larger than {largest >> 10} KiB"
    return None

"""A folder as a value: files by path, with what a file system may hold in the place of a file."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple


class Odd(NamedTuple):
    """What is no regular file with bytes of its own: ``pipe``, ``folder``, ``link``, or ``hole`` of so many bytes."""

    kind: str
    value: str | int = ""


Tree = Mapping[str, bytes | Odd]


def write_tree(tree: Tree, folder: Path) -> None:
    """Write files into an empty folder; what the file system refuses, such as a file below a file, is left out."""
    for name, content in tree.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                _ODD[content.kind](path, content.value)
        except (OSError, ValueError):
            continue


def _hole(path: Path, size: str | int) -> None:
    path.touch()
    os.truncate(path, int(size))


_ODD: dict[str, Callable[[Path, str | int], object]] = {
    "pipe": lambda path, _: os.mkfifo(path),
    "folder": lambda path, _: path.mkdir(),
    "link": lambda path, target: path.symlink_to(str(target)),
    "hole": _hole,
}


def read_tree(folder: Path) -> dict[str, bytes | Odd]:
    """The regular files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

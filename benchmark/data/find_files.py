"""Finding caption files and images below a folder, in the layouts that downloads come in."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmark.core.errors import UsageError

_ELSE = "or name the one you mean with karpathy[json=…,images=…]"
_DEPTH = 2  # folders below the root that are searched
_PROBED = 100  # images looked for in each folder
_SHOWN = 8  # names in a message


def folders_below(root: Path) -> list[Path]:
    """The root and the folders up to two levels below it, each once.

    Hidden folders are skipped, and so are folders without read permission, such as ``lost+found`` on disks.

    Raises:
        UsageError: the root is not a folder.
    """
    if not root.is_dir():
        raise UsageError(f"folder {root} does not exist")
    return _once(_walk(root, _DEPTH))


def find_caption_file(root: Path, folders: Sequence[Path], names: Sequence[str]) -> Path:
    """The caption file among the folders; of several ``names``, the first that exists counts.

    Raises:
        UsageError: there is none, or several have the same name.
    """
    for name in names:
        matches = [folder / name for folder in folders if (folder / name).is_file()]
        if len(matches) > 1:
            raise UsageError(f"several caption files {name} below {root}: {_listing(matches)}; keep one")
        if matches:
            return matches[0]
    raise UsageError(
        f"no caption file {' or '.join(names)} in {root} or up to {_DEPTH} levels below; "
        f"searched: {_listing(folders)}; Karpathy's files are in his caption_datasets.zip"
    )


def find_images(root: Path, folders: Sequence[Path], paths: Sequence[Path], source: Path) -> Path:
    """The folder that holds the images, with or without the folder that their paths begin with.

    Args:
        root: for the message.
        folders: where to look.
        paths: relative paths of the images, all in one folder (``val2014/a.jpg``).
        source: the caption file that lists them, for the message.

    Returns:
        The folder that directly holds the files.

    Raises:
        UsageError: none of the folders holds images of these names, or several do.
    """
    probed = paths[:: max(1, len(paths) // _PROBED)]
    places = _once(place for folder in folders for place in (folder, folder / paths[0].parent) if place.is_dir())
    matches = [place for place in places if any((place / path.name).is_file() for path in probed)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        folders_found = _listing(matches)
        raise UsageError(f"several folders below {root} hold images of {source}: {folders_found}; keep one, {_ELSE}")
    raise UsageError(
        f"no image of {source}, such as {paths[0]}, in {root} or up to {_DEPTH} levels below; "
        f"searched: {_listing(places)}"
    )


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    if not os.access(folder, os.R_OK | os.X_OK):
        return
    yield folder
    if depth:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
        for name in names:
            yield from _walk(folder / name, depth - 1)


def _once(folders: Iterator[Path]) -> list[Path]:
    """Each folder once, even if links or a case-insensitive file system show it under several names."""
    by_inode: dict[tuple[int, int], Path] = {}
    for folder in folders:
        status = folder.stat()
        by_inode.setdefault((status.st_dev, status.st_ino), folder)
    return list(by_inode.values())


def _listing(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(map(str, paths[:_SHOWN])) + more

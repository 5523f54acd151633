"""Which drawings of Open Clip Art are usable, with their captions; drawings that look alike share a group.

Drawing every file takes a while, so the survey is kept in the cache under the content of all files.
"""

import hashlib
import importlib.metadata
import json
import logging
import os
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.core.atomic_files import replacing
from benchmark.core.digests import file_sha256
from benchmark.core.errors import UsageError
from benchmark.core.progress import tracked
from benchmark.data.clipart_words import captions_of, name_of, title_of
from benchmark.data.dataset import Images
from benchmark.data.svg_file import BadDrawing, SvgFile, draw, read_svg

_VERSION = 1  # of this file, clipart_words and svg_file; raise it when drawings, captions or groups change
# Series made by a program, and shapes whose words say little of the picture.
_LEFT_OUT = (
    "recreation/games/cards/",
    "shapes/callouts/",
    "shapes/flowchart/",
    "shapes/jigsaw/",
    "shapes/stars/",
    "signs_and_symbols/led/",
    "special/gradients/",
)
_ICON_THEME = re.compile(r"\b(icon collection|icon ?set|icons|theme)\b", re.I)  # in titles; icons have no other
_PUBLIC_DOMAIN = ("publicdomain", "public domain")
_REPEATED = 5  # a title or caption of this many drawings names a series
_SIDE = 48  # pixels of the pictures that are compared
_FAINT = 4.0  # of 255; standard deviation of a picture
_THUMBNAIL = 12  # divides _SIDE
_ALIKE = 0.03  # squared difference of thumbnails, of the product of their norms
_STACK = 256 << 20  # bytes; the renderer goes at most 1,024 elements deep, which needs less than 64 MiB
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clipart:
    """A usable drawing.

    Attributes:
        path: of the file, below the collection's folder.
        captions: what its author wrote of it; at least one.
        group: a number that drawings which look alike share.
    """

    path: str
    captions: tuple[str, ...]
    group: int


def survey(folder: Path, cache: Path) -> tuple[list[Clipart], str]:
    """The usable drawings below a folder, sorted by path, and a hash of the content of all files.

    Raises:
        UsageError: a file cannot be read, or the cache cannot be written.
    """
    try:
        files = (path for path in folder.rglob("*.svg") if path.is_file() and not path.is_symlink())
        paths = sorted(path.relative_to(folder).as_posix() for path in files)
        paths = [path for path in paths if not path.startswith(_LEFT_OUT)]
        content = _content_of(folder, paths)
        kept = cache / "openclipart" / f"{content[:24]}.json"
        usable = _read(kept)
        if usable is None:
            usable = _survey(folder, paths)
            with replacing(kept) as temporary:
                temporary.write_text(json.dumps(_stored([asdict(each) for each in usable])), "utf-8")
    except OSError as error:
        raise UsageError(f"openclipart: {error.filename} cannot be read: {error.strerror or error}") from error
    return usable, content


def drawn(
    folder: Path, paths: Sequence[str], side: int, label: str, ground: int = 255
) -> Iterator[Images | BadDrawing]:
    """The picture of each file, (3, side, side) uint8, or why there is none. Shows the progress.

    Raises:
        OSError: a file cannot be read.
    """

    def picture(path: str) -> Images | BadDrawing:
        try:
            return draw(read_svg(folder / path).text, side, ground)
        except BadDrawing as error:
            return error

    with _deep_threads() as pool:
        for path in tracked(paths, label):
            yield pool.submit(picture, path).result()


@contextmanager
def _deep_threads() -> Iterator[ThreadPoolExecutor]:
    """A thread with a stack that deeply nested drawings do not overflow, which would kill the process."""
    usual = threading.stack_size(_STACK)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(int).result()  # starts the thread while the stack's size is set
            threading.stack_size(usual)
            yield pool
    finally:
        threading.stack_size(usual)


def _content_of(folder: Path, paths: Sequence[str]) -> str:
    versions = [importlib.metadata.version(package) for package in ("resvg-py", "pillow", "matplotlib")]
    digest = hashlib.sha256(f"{_VERSION} {versions}".encode())
    for path in paths:
        digest.update(os.fsencode(path) + f"\0{file_sha256(folder / path)}\n".encode())
    return digest.hexdigest()


def _read(kept: Path) -> list[Clipart] | None:
    try:
        stored = json.loads(kept.read_text("utf-8"))
        if stored != _stored(stored["drawings"]):
            raise ValueError("it does not match its hash")
        return [Clipart(each["path"], tuple(each["captions"]), each["group"]) for each in stored["drawings"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        _log.warning("%s is damaged (%s) and is made again", kept, error)
        return None


def _stored(drawings: list[dict[str, Any]]) -> dict[str, Any]:
    """The survey as its file holds it, with a hash."""
    return {"sha256": hashlib.sha256(json.dumps(drawings).encode()).hexdigest(), "drawings": drawings}


def _survey(folder: Path, paths: Sequence[str]) -> list[Clipart]:
    files, reasons = _readable(folder, paths)
    pictures: dict[str, Images] = {}
    seen: set[bytes] = set()
    for path, picture in zip(files, drawn(folder, list(files), _SIDE, "looking at drawings"), strict=True):
        if isinstance(picture, BadDrawing):
            reasons[path] = str(picture)
        elif picture.std() < _FAINT:
            reasons[path] = "hardly to be seen on white"
        elif (pixels := picture.tobytes()) not in seen:
            seen.add(pixels)
            pictures[path] = picture
    if reasons:
        path, reason = next(iter(reasons.items()))
        _log.warning(
            "openclipart: %d of %d files cannot be used; the first is %a: %s", len(reasons), len(paths), path, reason
        )
    captioned = _captioned({path: files[path] for path in pictures})
    groups = _groups([pictures[each.path] for each in captioned])
    return [replace(each, group=group) for each, group in zip(captioned, groups, strict=True)]


def _readable(folder: Path, paths: Sequence[str]) -> tuple[dict[str, SvgFile], dict[str, str]]:
    """The files in the public domain, and why others cannot be read."""
    files, reasons = {}, {}
    for path in tracked(paths, "reading drawings"):
        try:
            file = read_svg(folder / path)
        except BadDrawing as error:
            reasons[path] = str(error)
            continue
        if _is_public_domain(file) and not _ICON_THEME.search(file.title):
            files[path] = file
    return files, reasons


def _is_public_domain(file: SvgFile) -> bool:
    """Whether the file names at least one licence, and all that it names are the public domain."""
    return bool(file.licences) and all(any(word in each.lower() for word in _PUBLIC_DOMAIN) for each in file.licences)


def _captioned(files: dict[str, SvgFile]) -> list[Clipart]:
    """The drawings that have captions, each in a group of its own."""
    titles = {path: title_of(file) for path, file in files.items()}
    common = _repeated(titles.values())
    captions = {}
    for path, file in files.items():
        title = titles[path]
        captions[path] = captions_of(file, name_of(Path(path).stem, file.creator) if title.lower() in common else title)
    common = _repeated(caption for each in captions.values() for caption in each)
    kept = {path: tuple(c for c in each if c.lower() not in common) for path, each in captions.items()}
    return [Clipart(path, each, group) for group, (path, each) in enumerate(kept.items()) if each]


def _repeated(texts: Iterable[str]) -> set[str]:
    counts = Counter(text.lower() for text in texts)
    return {"", *(text for text, count in counts.items() if count >= _REPEATED)}


def _groups(pictures: Sequence[Images]) -> list[int]:
    """A number for each picture, the same for pictures that look alike, directly or through others between them."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    if not pictures:
        return []
    cell = _SIDE // _THUMBNAIL
    shape = (len(pictures), 3, _THUMBNAIL, cell, _THUMBNAIL, cell)
    thumbnails = np.stack(pictures).reshape(shape).mean((3, 5), dtype=np.float64).reshape(len(pictures), -1)
    ink = 255 - thumbnails
    energy = (ink**2).sum(1)
    alike = energy[:, None] + energy - 2 * ink @ ink.T < _ALIKE * np.sqrt(np.outer(energy, energy))
    return [int(group) for group in connected_components(csr_array(alike), directed=False)[1]]

"""``manifest.json``: what an export contains, how it was made, and the hash of every file."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Annotated, Any

from msgspec import Meta

from attacks.placement import FRONT, Place
from benchmark.core.digests import file_sha256
from benchmark.core.errors import UsageError, as_usage_error
from benchmark.core.strict_json import Number, as_kind, parse_json
from benchmark.core.thread_pool import in_order, thread_pool
from benchmark.export.inside import read_inside
from benchmark.grid.record_schema import Count, Seed

NAME = "manifest.json"
LARGEST_SIDE = 4096  # pixels; more than any victim sees
FORMAT = "unlearnable-bench export 1"
NOTE = "The noise is defined at the victim's resolution: resizing, cropping or compressing the images again weakens it."
FULL_SIZE_NOTE = (
    "The noise was enlarged onto the original images, so they differ from the images that the benchmark's victims "
    "train on: read at the victim's resolution, only part of the noise is left."
)


@dataclass(frozen=True)
class FileFacts:
    """A file's size in bytes and SHA-256."""

    bytes: Count
    sha256: str


@dataclass(frozen=True)
class SplitFacts:
    """The content of one split.

    Attributes:
        images: number of images.
        captions: number of captions, over all images.
        clean_fingerprint: fingerprint of the clean split at the victim's resolution.
        fingerprint: fingerprint of images and captions as read from these files; ``None`` at the original resolution.
    """

    # Bounded, because code computes with these numbers before it reads a file, and a manifest may be untrusted.
    images: Annotated[int, Meta(ge=0, le=10**7)]
    captions: Annotated[int, Meta(ge=0, le=10**8)]
    clean_fingerprint: str
    fingerprint: str | None


@dataclass(frozen=True)
class Manifest:
    """The description of an export.

    Attributes:
        layout: a name in :data:`benchmark.export.layouts.LAYOUTS`.
        attack: the attack: ``spec``, ``label``, ``params``, ``strength``, and ``provenance`` of its poison.
        seed: the cell's seed, which decides the poison and, where each seed has a data set of its own, the data.
        eps: the bound on the noise, in 1/255.
        per_row: whether there is one image for each image–caption pair.
        resolution: height and width in pixels at which the noise is defined.
        surrogate: the model that crafted the poison; ``None`` for an attack that builds none.
        dataset: the data set's spec.
        splits: the content of each split.
        triggers: the trigger of each training image, empty for an image without one; ``None`` for no triggers.
        noise: as :func:`benchmark.data.difference.compare` returns it, for 8-bit images at the victim's resolution.
        full_size: ``None``, or how much noise is left after enlarging it onto the original images: ``mean_delta``
            before, ``mean_delta_read_back`` after, both in 1/255, and their ratio ``share``.
        rewritten_captions: number of captions from which line breaks, repeated spaces or control characters were
            removed; their tokens are unchanged.
        note: a warning for users, about the resolution of the noise.
        versions: versions of this benchmark and of the packages that affect images and captions.
        command: the command that made the export.
        files: size and hash of every file, by its path in the folder, with forward slashes.
        licence: SPDX name of the licence of images and captions; ``None`` if it is unknown, as in earlier versions.
        attribution: whom the licence asks to name; ``None`` if it asks nothing, as in earlier versions.
        place: where the triggers stand in their captions; in earlier versions always in front.
    """

    layout: str
    attack: Mapping[str, Any]
    seed: Seed
    eps: Annotated[int, Meta(ge=0, le=127)]
    per_row: bool
    resolution: Annotated[int, Meta(ge=1, le=LARGEST_SIDE)]
    surrogate: str | None
    dataset: str
    splits: Mapping[str, SplitFacts]
    triggers: list[str] | None
    noise: Mapping[str, Count | Number | None]
    full_size: Mapping[str, Number] | None
    rewritten_captions: Count
    note: str
    versions: Mapping[str, str]
    command: str
    files: Mapping[str, FileFacts]
    licence: str | None = None
    attribution: str | None = None
    place: Place = FRONT

    @property
    def is_clean(self) -> bool:
        """Whether images and captions are those of the data set: no noise, no triggers."""
        return not self.noise["largest"] and not any(self.triggers or ())

    def save(self, folder: Path) -> None:
        """Write ``manifest.json``."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False)
        (folder / NAME).write_bytes(text.encode())

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read the ``manifest.json`` of an export, which may be untrusted.

        Raises:
            UsageError: it is missing or invalid.
        """
        path = folder / NAME
        if not path.exists():
            raise UsageError(f"{folder} has no {NAME}, so it is neither an export nor a folder of protected photos")
        with as_usage_error(f"cannot read {path}"), as_usage_error(f"{path} is not a valid manifest", (ValueError,)):
            return _read(read_inside(folder, NAME).decode())


def _read(text: str) -> Manifest:
    content = parse_json(text)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT!r}")
    manifest: Manifest = as_kind(content, Manifest)
    if "train" not in manifest.splits or not manifest.splits.keys() <= {"train", "val", "test"}:
        raise ValueError(f"its splits are {', '.join(manifest.splits)}")
    return manifest


def list_files(folder: Path) -> list[str]:
    """All files and links below a folder except the manifest: sorted paths with slashes. Links are not followed."""
    paths = []
    for root, folders, names in os.walk(folder):
        inner = Path(root)
        links = [name for name in folders if (inner / name).is_symlink()]
        paths += [(inner / name).relative_to(folder).as_posix() for name in (*names, *links)]
    return sorted(set(paths) - {NAME})


def hash_files(folder: Path, names: list[str], expected: Mapping[str, FileFacts] | None = None) -> dict[str, FileFacts]:
    """Size and SHA-256 of files, by path. Links, pipes and the like are not read and get an empty hash.

    Args:
        folder: where the files lie.
        names: their paths in it.
        expected: what they should be; a file of another size is not read, however large it is, and gets an empty hash.
    """

    def facts(name: str) -> FileFacts:
        status = (folder / name).lstat()
        if not S_ISREG(status.st_mode):
            return FileFacts(-1, "")
        ruled_out = expected is not None and status.st_size != expected[name].bytes
        return FileFacts(status.st_size, "" if ruled_out else file_sha256(folder / name))

    with thread_pool() as pool:
        return dict(zip(names, in_order(pool, facts, names), strict=True))

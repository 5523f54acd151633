"""``manifest.json``: what an export is, where it comes from, and the hash of every file in it."""

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

from benchmark.core.atomic_files import sha256_of
from benchmark.core.errors import UsageError
from benchmark.export.images import read_inside

NAME = "manifest.json"
LARGEST_SIDE = 4096  # pixels; no victim sees more
FORMAT = "unlearnable-bench export 1"
NOTE = "The noise is defined at the victim's resolution: resizing, cropping or compressing the images again weakens it."
FULL_SIZE_NOTE = (
    "The noise was enlarged onto the original images, so they are not bit for bit what the victims of the benchmark "
    "train on, and read at the victim's resolution only a part of it is left."
)


@dataclass(frozen=True)
class FileFacts:
    """A file's size in bytes and SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class SplitFacts:
    """What one split holds.

    Attributes:
        images: how many.
        captions: how many, of all images.
        clean_fingerprint: of the data set's own split at the victim's resolution.
        fingerprint: of images and captions as they come out of these files; ``None`` at the original resolution.
    """

    images: int
    captions: int
    clean_fingerprint: str
    fingerprint: str | None


@dataclass(frozen=True)
class Manifest:
    """All that is said of an export.

    Attributes:
        layout: a name of :data:`benchmark.export.layouts.LAYOUTS`.
        attack: the attack: ``spec``, ``label``, ``params``, ``strength``, and ``provenance`` of its poison.
        seed: the attack's seed.
        eps: the bound on the noise, in 1/255.
        per_row: one image for each image–caption pair.
        resolution: height and width in pixels that the noise is defined at.
        surrogate: the model that crafted the poison.
        dataset: the data set's spec.
        splits: by name.
        triggers: the words in front of the captions of each training image; ``None`` for none.
        noise: ``largest`` (1/255), ``psnr`` (dB, of the mean squared error), ``ssim`` (mean over images) and
            ``ssim_window`` (pixels), all of 8-bit images at the victim's resolution; psnr is ``None`` without noise.
        full_size: ``None``, or what is left of the noise enlarged onto the original images: ``mean_delta`` before and
            ``mean_delta_read_back``, both in 1/255, and ``share`` of the two.
        rewritten_captions: how many captions had line breaks, repeated blanks or control characters taken out; their
            tokens are the same.
        note: at which resolution the noise is defined.
        versions: of this benchmark and the packages that shape images and captions.
        command: that made the export.
        files: every file by its path in the folder, with slashes.
    """

    layout: str
    attack: Mapping[str, Any]
    seed: int
    eps: int
    per_row: bool
    resolution: int
    surrogate: str
    dataset: str
    splits: Mapping[str, SplitFacts]
    triggers: list[str] | None
    noise: Mapping[str, Any]
    full_size: Mapping[str, float] | None
    rewritten_captions: int
    note: str
    versions: Mapping[str, str]
    command: str
    files: Mapping[str, FileFacts]

    def save(self, folder: Path) -> None:
        """Write ``manifest.json``."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False)
        (folder / NAME).write_bytes(text.encode())

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read ``manifest.json`` of an export, whoever wrote it.

        Raises:
            UsageError: there is none, or it is not of this form.
        """
        path = folder / NAME
        if not path.exists():
            raise UsageError(f"{folder} is no export: it has no {NAME}")
        try:
            return _read(json.loads(read_inside(folder, NAME)))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(f"{path} is not the manifest of an export: {error}") from error


_KINDS: dict[str, Any] = {
    "layout": str,
    "attack": dict,
    "seed": int,
    "eps": int,
    "per_row": bool,
    "resolution": int,
    "surrogate": str,
    "dataset": str,
    "splits": dict,
    "triggers": (list, type(None)),
    "noise": dict,
    "full_size": (dict, type(None)),
    "rewritten_captions": int,
    "note": str,
    "versions": dict,
    "command": str,
    "files": dict,
}


def _read(content: dict[str, Any]) -> Manifest:
    if content["format"] != FORMAT:
        raise ValueError(f"its format is {content['format']!r}, not {FORMAT!r}")
    values = {name: _checked(content, name, kind) for name, kind in _KINDS.items()}
    if not all(isinstance(trigger, str) for trigger in values["triggers"] or []):
        raise ValueError("a trigger is not text")
    splits = {
        name: SplitFacts(
            images=_checked(split, "images", int),
            captions=_checked(split, "captions", int),
            clean_fingerprint=_checked(split, "clean_fingerprint", str),
            fingerprint=_checked(split, "fingerprint", (str, type(None))),
        )
        for name, split in values["splits"].items()
    }
    if not 1 <= values["resolution"] <= LARGEST_SIDE:
        raise ValueError(f"its resolution is {values['resolution']}")
    if "train" not in splits or not splits.keys() <= {"train", "val", "test"}:
        raise ValueError(f"its splits are {', '.join(splits)}")
    files = {
        name: FileFacts(bytes=_checked(file, "bytes", int), sha256=_checked(file, "sha256", str))
        for name, file in values["files"].items()
    }
    return Manifest(**values | {"splits": splits, "files": files})


def _checked(content: dict[str, Any], name: str, kind: Any) -> Any:
    if not isinstance(content[name], kind):
        raise TypeError(f"{name} is a {type(content[name]).__name__}")
    return content[name]


def list_files(folder: Path) -> list[str]:
    """Every file and link below a folder except the manifest, as sorted paths with slashes; links are not followed."""
    found = []
    for root, folders, names in os.walk(folder):
        inner = Path(root)
        links = [name for name in folders if (inner / name).is_symlink()]
        found += [(inner / name).relative_to(folder).as_posix() for name in (*names, *links)]
    return sorted(set(found) - {NAME})


def hash_files(folder: Path, names: list[str]) -> dict[str, FileFacts]:
    """Size and SHA-256 of files, by path; links, pipes and the like are not read and come out without a hash."""

    def facts(name: str) -> FileFacts:
        status = (folder / name).lstat()
        return FileFacts(status.st_size, sha256_of(folder / name)) if S_ISREG(status.st_mode) else FileFacts(-1, "")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(names, pool.map(facts, names), strict=True))

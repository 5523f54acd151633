"""Disk cache of rendered or resized splits: one folder per content key, verified whenever it is read.

An entry holds one ``.npy`` array of images per split, and ``entry.json`` with the captions, the fingerprints, the bad
images that were left out, and a hash of every chunk of the arrays, so that chunks can be verified in parallel. Entries
are written to a temporary folder and renamed, so that no reader sees a half-written one. Who writes one holds a claim
on it, so that processes that start together decode the images once.
"""

import errno
import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from benchmark.core.atomic_files import discard, temporary_folder
from benchmark.core.digests import json_sha256
from benchmark.core.disk_space import require_space, reserve
from benchmark.core.errors import UsageError, as_usage_error
from benchmark.core.locks import claimed
from benchmark.core.reading import read_text
from benchmark.core.strict_json import as_kind
from benchmark.core.thread_pool import thread_pool
from benchmark.data.dataset import CaptionDataset, Images, LazyImages, Splits
from benchmark.data.image_location import ImageLocation

SPLITS = ("train", "val", "test")
_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)  # of an entry; other errors are the disk's
_INDEX = "entry.json"
_FORMAT = 3  # of entries; older ones are ignored
_LARGEST_INDEX = 2**34  # bytes; COCO's has 50 million, and three caption files of 1 GiB each have six times as many
_CHUNK = 64  # images per hash; part of the format
_log = logging.getLogger(__name__)

Draw = Callable[[str, Images], Mapping[int, str] | None]
Shape = tuple[int, int, int, int]


class _Stored(TypedDict):
    """What an index holds of a split: ``left_out`` by row, as text."""

    fingerprint: str
    captions: list[list[str]]
    left_out: dict[str, str]
    hashes: list[str]


def cached_splits(
    cache: Path,
    name: str,
    kind: str,
    key: Mapping[str, Any],
    captions: Mapping[str, list[list[str]]],
    resolution: int,
    draw: Draw,
    origins: Mapping[str, list[ImageLocation]] | None = None,
) -> Splits:
    """Read the three splits from the cache. If the entry is missing or damaged, draw them first.

    Args:
        cache: folder of all entries; created if missing.
        name: name of the data set that the splits will carry; not part of the key.
        kind: first part of the entry's folder name.
        key: everything that decides the images except captions and resolution; JSON values only.
        captions: captions per image for ``train``, ``val`` and ``test``.
        resolution: height and width in pixels.
        draw: ``draw(split, out)`` fills ``out (N, 3, resolution, resolution) uint8`` with the images of a split. It
            may return the indices of images to leave out, each with the reason. With ``origins``, the reason continues
            a line that begins with "image FILE".
        origins: where the images of ``train``, ``val`` and ``test`` come from; ``None`` if not from files.

    Returns:
        Splits whose images are memory-mapped read-only.

    Raises:
        UsageError: the folder cannot be written, locked or read (the message names it), or all images of a split are
            left out. Errors of ``draw`` pass through, and nothing but an empty lock file is left behind.
    """
    digest = json_sha256({"format": _FORMAT, **key, "captions": captions, "resolution": resolution})
    entry = cache / f"{kind}-{resolution}px-{digest[:24]}"
    shapes = {split: (len(captions[split]), 3, resolution, resolution) for split in SPLITS}
    splits = _read_or_discard(entry, name, shapes, origins)
    _log.debug("data set %s at %s px: %s in %s", name, resolution, "prepared" if splits is None else "read", entry)
    if splits is None:
        with as_usage_error(f"cannot write the cache folder {cache}"):
            cache.mkdir(parents=True, exist_ok=True)
            with claimed(entry, wait=True):
                if not entry.exists():  # else another process has made it meanwhile
                    _write(entry, name, captions, shapes, draw, origins)
        splits = _read_or_discard(entry, name, shapes, origins)
    if splits is None:
        raise UsageError(f"cannot read back the entry just written to the cache folder {cache}")
    return splits


def _read_or_discard(
    entry: Path, name: str, shapes: Mapping[str, Shape], origins: Mapping[str, list[ImageLocation]] | None
) -> Splits | None:
    try:
        if not entry.exists():
            return None
        index = json.loads(read_text(entry / _INDEX, _LARGEST_INDEX))
        if index.pop("sha256") != json_sha256(index):
            raise ValueError(f"{_INDEX} does not match its hash")
        files = origins or {}
        stored = {split: as_kind(index[split], _Stored, split) for split in SPLITS}
        splits = {
            split: _read_split(entry, name, split, shapes[split], stored[split], files.get(split)) for split in SPLITS
        }
        left_out = [line for split in SPLITS for line in _left_out_lines(stored[split]["left_out"], files.get(split))]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno is not None and error.errno not in _DAMAGE:
            # The disk or the network fails, or memory is short: the entry may be whole.
            raise UsageError(f"cannot read the cache folder {entry}: {error.strerror or error}") from error
        _log.warning("cache entry %s is damaged (%s) and is made again", entry, error)
        discard(entry)
        return None
    return Splits(**splits, left_out=tuple(left_out))


def require_images(split: str, count: int, left_out: Sequence[str]) -> None:
    """Require that a split still has images after bad ones were left out.

    Raises:
        UsageError: it has none; the message holds the first reason.
    """
    if not count and left_out:
        raise UsageError(f"{split}: no image is left, all are bad; the first reason: {left_out[0]}")


def _read_split(
    entry: Path, name: str, split: str, shape: Shape, stored: "_Stored", origins: list[ImageLocation] | None
) -> CaptionDataset:
    # The header says what is known anyway, and NumPy's reader meets a damaged one with errors of every kind.
    file = entry / f"{split}.npy"
    header = file.stat().st_size - math.prod(shape)
    if header < 0:
        raise ValueError(f"{file.name} is cut short")
    images = np.memmap(file, np.uint8, "r", offset=header, shape=shape)
    if _hashes(images) != stored["hashes"]:
        raise ValueError(f"the images of {split} do not match their hashes")
    if origins is not None:
        origins = [origin for row, origin in enumerate(origins) if str(row) not in stored["left_out"]]
    kept = _without(images, stored["left_out"])
    dataset = CaptionDataset(name, split, kept, stored["captions"], origins=origins)
    # The pixels have just been verified. Hashing them again, on one core, would take most of the time of a start.
    vars(dataset)["fingerprint"] = stored["fingerprint"]
    return dataset


def _without(images: Images, left_out: Mapping[str, str]) -> Images | LazyImages:
    if not left_out:
        return images
    return LazyImages(images, pick=np.delete(np.arange(len(images)), [int(index) for index in left_out]))


def _left_out_lines(left_out: Mapping[str, str], origins: list[ImageLocation] | None) -> list[str]:
    """A line for each image that was left out: its current name and the reason."""
    return [f"image {origins[int(row)]} {reason}" if origins else reason for row, reason in left_out.items()]


def _hashes(images: Images) -> list[str]:
    def hash_of(start: int) -> str:
        return hashlib.sha256(np.ascontiguousarray(images[start : start + _CHUNK]).data).hexdigest()

    # Hashing and reading mapped memory release the interpreter lock.
    with thread_pool() as pool:
        return list(pool.map(hash_of, range(0, len(images), _CHUNK)))


def _write(
    entry: Path,
    name: str,
    captions: Mapping[str, list[list[str]]],
    shapes: Mapping[str, Shape],
    draw: Draw,
    origins: Mapping[str, list[ImageLocation]] | None,
) -> None:
    require_space(entry.parent, sum(map(math.prod, shapes.values())))
    with temporary_folder(entry.parent, entry.name) as temporary:
        index: dict[str, Any] = {}
        for split in SPLITS:
            file = temporary / f"{split}.npy"
            images = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shapes[split])
            with file.open("r+b") as opened:
                reserve(opened.fileno(), file.stat().st_size)
            left_out = {str(row): reason for row, reason in (draw(split, images) or {}).items()}
            images.flush()
            kept = [texts for row, texts in enumerate(captions[split]) if str(row) not in left_out]
            require_images(split, len(kept), _left_out_lines(left_out, (origins or {}).get(split)))
            dataset = CaptionDataset(name, split, _without(images, left_out), kept)
            index[split] = {
                "fingerprint": dataset.fingerprint,
                "captions": kept,
                "left_out": left_out,
                "hashes": _hashes(images),
            }
        index["sha256"] = json_sha256(index)
        (temporary / _INDEX).write_text(json.dumps(index), encoding="utf-8")
        try:
            temporary.replace(entry)
        except OSError:
            # Locks may hold within one machine only, and another one finished the same entry first. Its content is the
            # same, so keep that one.
            if not entry.exists():
                raise

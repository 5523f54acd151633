"""A user's own tar shards in the WebDataset layout, read without unpacking."""

import logging
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from benchmark.core.errors import UsageError, in_one_line
from benchmark.data import DATASETS
from benchmark.data.caption_files import captions_in, clean_caption, is_file_name, parse_json
from benchmark.data.file_source import UserFiles
from benchmark.data.image_files import CaptionedFile, captioned_file
from benchmark.data.image_location import LARGEST_IMAGE, Member
from benchmark.data.shards import find_shards

_log = logging.getLogger(__name__)

_IMAGES = ("jpg", "jpeg", "png", "webp")
_CAPTIONS = ("json", "txt")  # the first that holds captions counts
_LARGEST = {**dict.fromkeys(_IMAGES, LARGEST_IMAGE), **dict.fromkeys(_CAPTIONS, 2**24)}  # bytes per member

_MOST_PADDING = 2**26  # bytes of zeros after an archive's end mark; tar itself writes some kilobytes

Sample = dict[str, Member]


@DATASETS.register("webdataset", order=25)
@dataclass(frozen=True)
class WebDataset(UserFiles):
    """Tar shards of your own: images (``jpg``, ``jpeg``, ``png``, ``webp``) with a ``txt`` or ``json`` of the same key.

    Shards are named by a path, a glob, or braces (``train-{00000..00012}.tar``). A ``txt`` holds a caption on each
    line; a ``json`` holds ``captions``, ``caption`` or ``text``. If a sample has both, the captions of the ``json``
    count: trainers read one caption from the ``txt``, so it may hold only the first.

    Attributes:
        train: shards of the training images.
        test: shards of the test images.
        val: shards of the validation images; ``None`` cuts them from the training images.
    """

    train: str
    test: str
    val: str | None = None

    def read(self) -> dict[str, list[CaptionedFile]]:
        """The samples of each split's shards."""
        specs = {"train": self.train, "test": self.test, "val": self.val}
        return {split: _read(spec) for split, spec in specs.items() if spec is not None}


def _read(spec: str) -> list[CaptionedFile]:
    others: Counter[str] = Counter()
    files = [file for shard in find_shards(spec) for file in read_shard(shard, others)]
    if others:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(others.items()))
        _log.warning("%s: ignoring members that are neither image nor caption: %s", spec, kinds)
    if not files:
        raise UsageError(f"{spec}: no samples")
    return files


def read_shard(shard: Path, others: Counter[str]) -> list[CaptionedFile]:
    """The samples of a shard, ordered by first member. Incomplete samples are included, with their fault.

    Args:
        shard: the tar file.
        others: counts, by extension, the members that are neither image nor caption.

    Raises:
        UsageError: the file is missing, compressed, cut short or damaged, or has a member that is a link or whose path
            leads out of the archive.
    """
    try:
        with shard.open("rb") as file:
            samples = _members(file, shard, others)
            return [_captioned(file, shard, key, sample) for key, sample in samples.items()]
    except (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError, RecursionError) as error:
        no_tar = "cut short, compressed or not a tar file: " if isinstance(error, tarfile.ReadError) else ""
        raise UsageError(f"shard {shard} cannot be read: {no_tar}{in_one_line(error)}") from error


def _members(file: BinaryIO, shard: Path, others: Counter[str]) -> dict[str, Sample]:
    """The members of each sample (key), by extension."""
    size = file.seek(0, 2)
    file.seek(0)
    samples: dict[str, Sample] = {}
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            path = _validated_path(info, shard, size)
            # As in WebDataset, the key ends at the first dot of the file name.
            stem, _, ending = path.name.partition(".")
            if info.isdir():
                continue
            if not stem or not ending:
                others[path.name if not stem else "no extension"] += 1
                continue
            sample = samples.setdefault(str(path.with_name(stem)), {})
            if ending.lower() in sample:
                raise UsageError(f"shard {shard} has two members {info.name}")
            sample[ending.lower()] = Member(shard, info.name, info.offset_data, info.size)
        _require_end_mark(file, archive.offset, shard)
    for sample in samples.values():
        others.update(f".{ending}" for ending in sample if ending not in _LARGEST)
    return samples


def _validated_path(info: tarfile.TarInfo, shard: Path, size: int) -> PurePosixPath:
    if info.size < 0 or info.offset_data + (info.size if info.isreg() else 0) > size:
        raise UsageError(f"shard {shard} is cut short or damaged at member {info.name!r}")
    if not (info.isreg() or info.isdir()) or info.issparse():
        raise UsageError(f"shard {shard}: member {info.name!r} is a link or special file; only regular files are read")
    path = PurePosixPath(info.name)
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f"shard {shard}: member {info.name!r} leads out of the archive")
    if not is_file_name(info.name):
        raise UsageError(f"shard {shard}: {info.name!a} is not a valid file name")
    return path


def _require_end_mark(file: BinaryIO, offset: int, shard: Path) -> None:
    """Require an end mark with nothing after it: tarfile stops silently at a damaged header or a second archive."""
    file.seek(offset)
    if not file.read(1):
        raise UsageError(f"shard {shard} is cut short: it has no end mark")
    if file.seek(0, 2) - offset > _MOST_PADDING:
        raise UsageError(f"shard {shard} is damaged: more than {_MOST_PADDING >> 20} MiB follow its end mark")
    file.seek(offset)
    while block := file.read(2**20):
        if block.count(0) != len(block):
            raise UsageError(f"shard {shard} is damaged or holds several archives: there is data after its end mark")


def _captioned(file: BinaryIO, shard: Path, key: str, sample: Sample) -> CaptionedFile:
    images = [sample[ending] for ending in _IMAGES if ending in sample]
    members = ", ".join(member.name for member in sample.values())
    where = f"shard {shard}: sample {key}"
    if len(images) != 1:
        what = "several images" if images else f"no image ({', '.join(_IMAGES)})"
        # Named after the sample, so that two such samples of one shard are told apart.
        place = Member(shard, key, offset=0, size=0)
        return CaptionedFile(place, [], f"{where} has {what}; its members: {members}")
    written = [sample[ending] for ending in _CAPTIONS if ending in sample]
    if not written:
        return CaptionedFile(images[0], [], f"{where} has no caption (txt or json); its members: {members}")
    if too_large := [
        member.name for ending, member in sample.items() if member.size > _LARGEST.get(ending, member.size)
    ]:
        return CaptionedFile(images[0], [], f"{where} has a member that is too large: {too_large[0]}")
    texts: list[str] = []
    for member in written:
        file.seek(member.offset)
        content = file.read(member.size)
        try:
            texts = _texts(content) if member is sample.get("txt") else _captions(content, required=len(written) == 1)
        except (ValueError, KeyError, TypeError) as error:
            reason = f"lacks {error.args[0]}" if isinstance(error, KeyError) else f"cannot be read: {error}"
            return CaptionedFile(images[0], [], f"{where}: {member.name} {reason}")
        if any(map(clean_caption, texts)):
            break
    return captioned_file(images[0], texts, shard)


def _texts(content: bytes) -> list[str]:
    return content.decode("utf-8-sig").replace("\r", "\n").split("\n")


def _captions(content: bytes, required: bool) -> list[str]:
    """The captions of a JSON member; if they are not required, none for JSON that is about other things."""
    row = parse_json(content)
    if not isinstance(row, dict):
        if required:
            raise TypeError("not a JSON object")
        return []
    try:
        return captions_in(row)
    except KeyError:
        if required:
            raise
        return []

"""WebDataset shards: tar archives whose bytes depend only on their content."""

import io
import itertools
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from benchmark.export.inside import LARGEST_FILE, file_inside

SAMPLES_A_SHARD = 1000
EXTENSIONS = ("png", "txt", "json")  # of a sample's image, its first caption and all its captions


def write_shards(folder: Path, split: str, samples: Iterable[Mapping[str, bytes]]) -> None:
    """Write ``SPLIT-000000.tar`` … with members such as ``00000000.png``, numbered across shards.

    Args:
        folder: folder of the shards.
        split: first part of the shards' names.
        samples: the files of each image, by extension, in the order of :data:`EXTENSIONS`.
    """
    numbered = enumerate(samples)
    for shard in itertools.count():
        chunk = itertools.islice(numbered, SAMPLES_A_SHARD)
        first = next(chunk, None)
        if first is None:
            return
        with tarfile.open(folder / f"{split}-{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for number, files in itertools.chain([first], chunk):
                for extension, content in files.items():
                    # The defaults of TarInfo fix time, owner and permissions: 0, 0 and 644.
                    member = tarfile.TarInfo(f"{number:08d}.{extension}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def shard_names(folder: Path, split: str) -> list[str]:
    """The names of a split's shards, in order."""
    return sorted(path.name for path in folder.glob(f"{split}-*.tar"))


def read_shards(folder: Path, split: str) -> Iterator[dict[str, bytes]]:
    """The files of each sample by extension, in the order of shards and members; nothing is unpacked to disk.

    Raises:
        ValueError: a sample lacks its image or captions, has a file of another kind, or is too large.
        tarfile.TarError: a shard is damaged.
    """
    for name in shard_names(folder, split):
        with tarfile.open(file_inside(folder, name), "r:") as archive:
            for key, members in itertools.groupby(archive, lambda member: member.name.partition(".")[0]):
                sample: dict[str, bytes] = {}
                for member in members:
                    extension = member.name.partition(".")[2]
                    if extension not in EXTENSIONS or extension in sample:
                        raise ValueError(f"{name}: unexpected member {member.name}")
                    sample[extension] = _content(archive, member)
                if not {"png", "json"} <= sample.keys():
                    raise ValueError(f"{name}: {key} is not an image with its captions")
                yield sample


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    # A sparse member may be huge in an archive of a few bytes.
    if not member.isreg() or member.issparse() or member.size > LARGEST_FILE:
        raise ValueError(f"{member.name} is not a regular file or is too large")
    file = archive.extractfile(member)
    content = file.read() if file else b""
    if len(content) != member.size:
        raise ValueError(f"{member.name} is cut short")
    return content

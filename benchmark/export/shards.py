"""WebDataset shards: tar archives whose bytes depend only on their content."""

import io
import itertools
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmark.export.images import LARGEST_FILE, file_inside

SAMPLES_A_SHARD = 1000


def write_shards(folder: Path, split: str, samples: Iterable[tuple[bytes, bytes]]) -> None:
    """Write ``SPLIT-000000.tar`` … with members ``00000000.png`` and ``00000000.json``, numbered across shards.

    Args:
        folder: folder of the shards.
        split: first part of the shards' names.
        samples: the PNG file and the JSON file of each image.
    """
    numbered = enumerate(samples)
    for shard in itertools.count():
        chunk = itertools.islice(numbered, SAMPLES_A_SHARD)
        first = next(chunk, None)
        if first is None:
            return
        with tarfile.open(folder / f"{split}-{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for number, (png, text) in itertools.chain([first], chunk):
                for suffix, content in (("png", png), ("json", text)):
                    # The defaults of TarInfo fix time, owner and permissions: 0, 0 and 644.
                    member = tarfile.TarInfo(f"{number:08d}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def read_shards(folder: Path, split: str) -> Iterator[tuple[bytes, bytes]]:
    """The PNG and JSON of each sample, in the order of shards and members; nothing is unpacked to disk.

    Raises:
        ValueError: a sample is incomplete or too large.
        tarfile.TarError: a shard is damaged.
    """
    for path in sorted(folder.glob(f"{split}-*.tar")):
        with tarfile.open(file_inside(folder, path.name), "r:") as archive:
            members = iter(archive)
            for image in members:
                text = next(members, None)
                stem = image.name.removesuffix(".png")
                if text is None or image.name != f"{stem}.png" or text.name != f"{stem}.json":
                    raise ValueError(f"{path.name}: {image.name} is not an image followed by its captions")
                yield _content(archive, image), _content(archive, text)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    # A sparse member may be huge in an archive of a few bytes.
    if not member.isreg() or member.issparse() or member.size > LARGEST_FILE:
        raise ValueError(f"{member.name} is not a regular file or is too large")
    file = archive.extractfile(member)
    content = file.read() if file else b""
    if len(content) != member.size:
        raise ValueError(f"{member.name} is cut short")
    return content

"""What a folder of protected photos says of itself: its ``manifest.json``."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from benchmark.core.atomic_files import replacing
from benchmark.core.errors import as_usage_error
from benchmark.core.strict_json import Number, as_kind, parse_json
from benchmark.export.finding import first_few
from benchmark.export.inside import read_inside
from benchmark.export.manifest import LARGEST_SIDE, NAME, FileFacts
from benchmark.export.photo import Kind
from benchmark.grid.record_schema import Count, Seed

FORMAT = "unlearnable-bench photos 1"
TABLE = "captions.csv"


@dataclass(frozen=True)
class ProtectedPhoto:
    """One photo of the folder.

    Attributes:
        file: its path in the folder, with forward slashes.
        source: the path of the original from the folder of the originals.
        captions: number of captions.
        trigger: the words in front of each caption; empty for none.
    """

    file: str
    source: str
    captions: Count
    trigger: str


@dataclass(frozen=True)
class Protection:
    """The description of a folder of protected photos.

    Attributes:
        identity: names what the folder was made from and how; a folder of the same identity has the same content.
        kind: of the files, ``jpeg`` or ``png``.
        quality: of JPEG files.
        attack: as in :class:`benchmark.export.manifest.Manifest`.
        seed: of the attack.
        eps: bound on the noise, in 1/255.
        resolution: side in pixels of the images that the noise was crafted on.
        period: side in such pixels of the square that the noise repeats.
        surrogate: the model that crafted the poison; ``None`` for an attack that builds none.
        photos: in the order of the originals.
        left_out: a line for each photo that ``--skip-bad`` left out: its name, a colon, the reason.
        bytes: size of the originals (``originals``) and of these photos (``protected``).
        read_back: what some of the photos show when they are read again, evenly spread over all: ``photos``, how many;
            ``share``, the part of the noise that is left at ``resolution``; ``correlation`` with the noise there;
            ``psnr`` at full size, dB, ``None`` if nothing changed; ``largest`` difference of a pixel value at full
            size, in 1/255.
        versions: as in :class:`benchmark.export.manifest.Manifest`.
        command: the command that made the folder.
        files: as in :class:`benchmark.export.manifest.Manifest`.
    """

    identity: str
    kind: Kind
    quality: Annotated[int, Meta(ge=0, le=100)]
    attack: Mapping[str, Any]
    seed: Seed
    eps: Annotated[int, Meta(ge=0, le=127)]
    resolution: Annotated[int, Meta(ge=1, le=LARGEST_SIDE)]
    period: Annotated[int, Meta(ge=1, le=LARGEST_SIDE)]
    surrogate: str | None
    photos: list[ProtectedPhoto]
    left_out: list[str]
    bytes: Mapping[str, Count]
    read_back: Mapping[str, Number | None]
    versions: Mapping[str, str]
    command: str
    files: Mapping[str, FileFacts]

    def save(self, folder: Path) -> None:
        """Write ``manifest.json``."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False)
        with replacing(folder / NAME) as temporary:
            temporary.write_bytes(text.encode())

    @classmethod
    def load(cls, folder: Path) -> "Protection | None":
        """Read the ``manifest.json`` of a folder, which may be untrusted; ``None`` if it is none of this kind.

        Raises:
            UsageError: it is of this kind and invalid.
        """
        try:
            content = parse_json(read_inside(folder, NAME).decode())
        except (OSError, ValueError):
            return None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            return None
        with as_usage_error(f"{folder / NAME} is not a valid manifest", (ValueError,)):
            protection: Protection = as_kind(content, cls)
            counted = Counter(photo.file for photo in protection.photos)
            if twice := [file for file, count in counted.items() if count > 1]:
                raise ValueError(f"it lists {first_few(twice)} twice")
            return protection

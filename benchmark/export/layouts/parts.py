"""What several layouts have in common: numbered PNG files, lines, lists of texts, and what Croissant extracts."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmark.export.layouts import CaptionSource, Sample


def write_images(folder: Path, samples: Iterable[Sample]) -> Iterator[tuple[str, Sample]]:
    """Write the PNG files one by one and yield the name of each with its sample."""
    folder.mkdir()
    for number, sample in enumerate(samples):
        name = f"{number:08d}.png"
        (folder / name).write_bytes(sample.png)
        yield name, sample


def lines(content: bytes) -> list[str]:
    """The lines of a text file in UTF-8; only line feeds end them."""
    return content.decode().removesuffix("\n").split("\n")


def strings(value: Any) -> list[str]:
    """The value itself.

    Raises:
        ValueError: it is not a list of texts, or one has a single surrogate.
    """
    if not isinstance(value, list) or not all(isinstance(caption, str) for caption in value):
        raise ValueError("captions are not a list of strings")
    for caption in value:
        caption.encode()  # raises for single surrogates, which JSON can spell
    return value


def extracts(what: str, /, **fields: str) -> dict[str, Any]:
    """What Croissant extracts for fields: of each the ``column``, the ``jsonPath`` or the ``fileProperty``."""
    return {name: {"extract": {what: value}} for name, value in fields.items()}


def texts_beside(split: str) -> CaptionSource:
    """The captions in the text file of each image."""
    return CaptionSource(f"{split}/*.txt", extracts("fileProperty", file="filename", text="content"))

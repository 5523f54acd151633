"""File layouts for images and captions: each writes and reads exports, and registers itself in a file of its own."""

import csv
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmark.core.registry import Registry
from benchmark.core.spec import Spec


@dataclass(frozen=True)
class Sample:
    """An image as a PNG file and its captions in order, one line each."""

    png: bytes
    captions: list[str]


# Errors that reading untrusted files may raise.
UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    RecursionError,
    ArithmeticError,
    MemoryError,
    csv.Error,
    tarfile.TarError,
)

Samples = Mapping[str, Iterable[Sample]]
"""The samples of ``train`` and perhaps ``val`` and ``test``, in this order; iterables may compute them lazily."""


HUGGING_FACE_SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""Hugging Face's names of the splits."""


@dataclass(frozen=True)
class CaptionSource:
    """Where the captions of a split are, in Croissant's terms.

    Attributes:
        files: the file that holds the captions; if each image has a caption file of its own, the pattern of these.
        fields: what to extract for each field; the field ``captions`` is a list.
    """

    files: str
    fields: Mapping[str, Mapping[str, Any]]


class Layout(ABC):
    """A file layout. Images keep the order of the data set's rows.

    Attributes:
        hugging_face: pattern of the files from which ``datasets.load_dataset`` reads a split; ``{split}`` stands for
            the suite's name of it, ``{name}`` for Hugging Face's. ``None`` if it cannot read images or captions.
    """

    hugging_face: ClassVar[str | None] = None

    @abstractmethod
    def write(self, folder: Path, splits: Samples) -> None:
        """Write images and captions into an empty folder."""

    @abstractmethod
    def read(self, folder: Path, split: str) -> Iterator[Sample]:
        """Read the samples of a split. Nothing outside the folder is read.

        Raises:
            Exception: the files do not have this layout; see :data:`UNREADABLE`.
        """

    def open_clip_data(self, folder: Path, images: int) -> list[str]:
        """The flags by which open_clip's trainer, started in the folder, reads the training split.

        Args:
            folder: a folder with this layout.
            images: number of training images.

        Returns:
            The flags; none if open_clip does not read this layout.
        """
        return []

    def captions(self, split: str) -> CaptionSource | None:
        """Where the captions of a split are; ``None`` if Croissant has no words for it."""
        return None


LAYOUTS: Registry[Layout] = Registry("format", "benchmark.export.layouts", Layout)


def layout_of(name: str) -> Layout:
    """The layout of that name.

    Raises:
        UsageError: there is none.
    """
    return LAYOUTS.build(Spec(name))

"""A user's own images in Hugging Face's folder layout: one folder per split, captions beside the images."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError, as_usage_error
from benchmark.data import DATASETS
from benchmark.data.caption_files import (
    CAPTION_KEYS,
    captions_in,
    captions_of_cell,
    inside,
    parse_json,
    read_rows,
    read_text,
)
from benchmark.data.file_source import UserFiles
from benchmark.data.image_files import CaptionedFile, captioned_file

_FOLDERS = {"train": ("train",), "val": ("validation", "valid", "val", "dev"), "test": ("test",)}
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
_SHOWN = 8  # names in a message


@DATASETS.register("imagefolder", order=26)
@dataclass(frozen=True)
class ImageFolder(UserFiles):
    """Images of your own in Hugging Face's layout: ``train/``, ``test/``, perhaps ``validation/``, each with captions.

    The captions of a split are in its ``metadata.csv`` or ``metadata.jsonl``, by ``file_name``, or else in a ``.txt``
    beside each image, one on each line. If there is no folder for val, it is cut from train.

    Attributes:
        root: folder of the splits' folders.
    """

    root: str

    def read(self) -> dict[str, list[CaptionedFile]]:
        """The images of each split's folder; see :func:`read_folders`."""
        return read_folders(user_path(self.root))


def read_folders(root: Path) -> dict[str, list[CaptionedFile]]:
    """The images of each split that has a folder.

    Raises:
        OSError: a folder cannot be read.
        UsageError: train or test has no folder, or a folder does not have this layout.
    """
    files: dict[str, list[CaptionedFile]] = {}
    for split, names in _FOLDERS.items():
        folders = [root / name for name in names if (root / name).is_dir()]
        if len(folders) > 1:
            both = ", ".join(path.name for path in folders)
            raise UsageError(f"folder {root} has several folders for one split: {both}")
        if folders:
            files[split] = read_folder(folders[0])
        elif split != "val":
            content = ", ".join(sorted(path.name for path in root.iterdir())[:_SHOWN]) or "nothing"
            raise UsageError(f"folder {root} has no folder {split}; found: {content}")
    return files


def read_folder(folder: Path) -> list[CaptionedFile]:
    """The images of one split, in the order of its metadata or by name, including images without captions.

    Raises:
        OSError: a folder cannot be read.
        UsageError: the metadata cannot be read or name a file outside the folder, or there are no images.
    """
    images = images_below(folder)
    metadata = [folder / name for name in _METADATA if (folder / name).is_file()]
    if len(metadata) > 1:
        raise UsageError(f"folder {folder} has several metadata files: {', '.join(path.name for path in metadata)}")
    files = from_metadata(metadata[0], images) if metadata else from_texts(folder, images)
    if not files:
        raise UsageError(f"folder {folder} holds no images")
    return files


def images_below(folder: Path, suffixes: Collection[str] = IMAGES) -> list[Path]:
    """All files below a folder whose suffix is one of ``suffixes``, sorted by path, without hidden files.

    Raises:
        OSError: a folder cannot be read.
    """
    return [path for path in _files_below(folder) if path.suffix.lower() in suffixes]


def from_metadata(source: Path, images: list[Path]) -> list[CaptionedFile]:
    """The images of a ``metadata.csv`` or ``.jsonl``, in its order, then those of ``images`` that it does not name."""
    captions: dict[Path, list[str]] = {}
    for where, row in _rows(source):
        try:
            path, texts = inside(source.parent, row["file_name"], source), captions_in(row)
        except KeyError as error:
            raise UsageError(
                f"caption file {source}: {where} lacks {error.args[0]}; found: {', '.join(row)}"
            ) from error
        except TypeError as error:
            raise UsageError(f"caption file {source}: {where} is invalid: {error}") from error
        captions.setdefault(path, []).extend(texts)
    for path in images:
        captions.setdefault(path, [])
    return [captioned_file(path, texts, source) for path, texts in captions.items()]


def _rows(source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row as a dictionary, with its name for messages (``row 3``, ``line 3``)."""
    if source.suffix in (".csv", ".tsv", ".txt"):
        for number, row in enumerate(read_rows(source, ["file_name"], source.parent).to_dict("records"), 1):
            yield f"row {number}", {str(column): _cell(column, text) for column, text in row.items()}
    elif source.suffix == ".jsonl":
        for number, line in enumerate(read_text(source).split("\n"), 1):
            if line.strip():
                yield f"line {number}", _object(line, f"caption file {source}: line {number}")
    else:
        raise UsageError(f"caption file {source} cannot be read: write it as metadata.csv or metadata.jsonl")


def _cell(column: object, text: str) -> str | list[str]:
    """What a cell of a table holds: paths are stripped, and captions may be a list in JSON."""
    if column in CAPTION_KEYS:
        return captions_of_cell(text)
    return text.strip() if column == "file_name" else text


def _object(line: str, where: str) -> dict[str, Any]:
    with as_usage_error(f"{where} cannot be read", (ValueError,)):
        row = parse_json(line)
    if not isinstance(row, dict):
        raise UsageError(f"{where} is not a JSON object")
    return row


def from_texts(folder: Path, images: list[Path]) -> list[CaptionedFile]:
    """Images with the captions of the ``.txt`` beside each, and a fault for every ``.txt`` without an image."""
    texts = {path for path in _files_below(folder) if path.suffix.lower() == ".txt"}
    files = []
    for image in images:
        text = next((path for path in (image.with_suffix(".txt"), image.with_suffix(".TXT")) if path in texts), None)
        if text is None:
            missing = f"no {image.with_suffix('.txt')}, and no table such as metadata.csv in {folder}"
            files.append(CaptionedFile(image, [], f"image {image} has no caption: {missing}"))
            continue
        try:
            files.append(captioned_file(image, read_text(text).split("\n"), text))
        except UsageError as error:
            files.append(CaptionedFile(image, [], str(error)))
    stems = {image.with_suffix("") for image in images}
    without_image = [path for path in sorted(texts) if path.with_suffix("") not in stems]
    return files + [CaptionedFile(path, [], f"caption file {path} has no image beside it") for path in without_image]


def _files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted by path, without hidden ones (``._a.jpg``, ``.DS_Store``)."""
    files = []
    # No folder is skipped silently: unreadable ones raise, and links are followed (a loop would visit one twice).
    seen = set()
    for parent, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        status = Path(parent).stat()
        if (place := (status.st_dev, status.st_ino)) in seen:
            raise UsageError(f"folder {folder} holds the same folder twice: a link points to {parent}")
        seen.add(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _raise(error: OSError) -> None:
    raise error

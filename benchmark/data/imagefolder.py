"""A user's own images in Hugging Face's folder layout: a folder for each split, captions beside the images."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.data import DATASETS, DatasetSource, Splits
from benchmark.data.caption_files import captions_in, inside, parse_json, read_rows, read_text
from benchmark.data.files import CaptionedFile, captioned_file, check_cut, cut_val, load_files
from benchmark.data.naming import written_name
from benchmark.errors import UsageError

_FOLDERS = {"train": ("train",), "val": ("validation", "valid", "val", "dev"), "test": ("test",)}
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


@DATASETS.register("imagefolder", order=26)
class ImageFolder(DatasetSource):
    """Images of your own in Hugging Face's layout: ``train/``, ``test/``, perhaps ``validation/``, each with captions.

    The captions of a split are in its ``metadata.csv`` or ``metadata.jsonl``, by ``file_name``, or else in a ``.txt``
    beside each image, one on each line. Images are resized and centre-cropped.

    Args:
        root: folder of the splits' folders.
        seed: decides which images are cut from train where there is no folder for val, at least 0.
        val_fraction: share of the training images that is cut for val then, between 0 and 1.
        skip_bad: leave out images that are missing, cannot be read or have no caption, and list them.

    Raises:
        UsageError: a parameter is out of range.
    """

    def __init__(self, root: str, seed: int = 0, val_fraction: float = 0.1, skip_bad: bool = False) -> None:
        check_cut("imagefolder", seed, val_fraction)
        self.root, self.seed, self.val_fraction, self.skip_bad = root, seed, val_fraction, skip_bad

    def load(self, resolution: int, cache: Path) -> Splits:
        """The images at ``resolution`` pixels squared, decoded once and then read from the cache.

        Raises:
            UsageError: a folder, its captions or an image is missing or cannot be read, or the cache folder cannot be
                written; the message names the file.
        """
        root = Path(self.root).expanduser()
        folders = {split: _split_folder(root, names) for split, names in _FOLDERS.items()}
        files: dict[str, list[CaptionedFile]] = {}
        for split, folder in folders.items():
            if folder is not None:
                files[split] = read_folder(folder)
            elif split != "val":
                raise UsageError(f"folder {root} has no folder {split}; found: {_listing(root)}")
        if "val" not in files:
            files["train"], files["val"] = cut_val(files["train"], self.seed, self.val_fraction, str(root))
        return load_files(cache, written_name("imagefolder", self), "imagefolder", files, resolution, self.skip_bad)


def read_folder(folder: Path) -> list[CaptionedFile]:
    """The images of one split in the order of its metadata, or by name; images without captions are among them.

    Raises:
        UsageError: the metadata cannot be read or lead out of the folder, or there are no images.
    """
    images = [path for path in _files_below(folder) if path.suffix.lower() in _IMAGES]
    found = [folder / name for name in _METADATA if (folder / name).is_file()]
    if len(found) > 1:
        raise UsageError(f"folder {folder} has several metadata files: {', '.join(path.name for path in found)}")
    files = _from_metadata(found[0], images) if found else _from_texts(folder, images)
    if not files:
        raise UsageError(f"folder {folder} holds no images")
    return files


def _from_metadata(source: Path, images: list[Path]) -> list[CaptionedFile]:
    captions: dict[Path, list[str]] = {}
    for where, row in _rows(source):
        try:
            path, texts = inside(source.parent, row["file_name"], source), captions_in(row)
        except KeyError as error:
            raise UsageError(
                f"caption file {source}: {where} lacks {error.args[0]}; found: {', '.join(row)}"
            ) from error
        except TypeError as error:
            raise UsageError(f"caption file {source}: {where} is not of this form: {error}") from error
        captions.setdefault(path, []).extend(texts)
    for path in images:
        captions.setdefault(path, [])
    return [captioned_file(path, texts, source) for path, texts in captions.items()]


def _rows(source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row as a dictionary, with what to call it in messages."""
    if source.suffix == ".csv":
        for number, row in enumerate(read_rows(source).to_dict("records"), 1):
            yield f"row {number}", {str(key): value for key, value in row.items()}
    elif source.suffix == ".jsonl":
        for number, line in enumerate(read_text(source).split("\n"), 1):
            if line.strip():
                yield f"line {number}", _object(line, f"caption file {source}: line {number}")
    else:
        raise UsageError(f"caption file {source} cannot be read: write it as metadata.csv or metadata.jsonl")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise UsageError(f"{where} cannot be read: {error}") from error
    if not isinstance(row, dict):
        raise UsageError(f"{where} is not a JSON object")
    return row


def _from_texts(folder: Path, images: list[Path]) -> list[CaptionedFile]:
    texts = {path for path in _files_below(folder) if path.suffix.lower() == ".txt"}
    files = []
    for image in images:
        text = next((path for path in (image.with_suffix(".txt"), image.with_suffix(".TXT")) if path in texts), None)
        try:
            captions = [] if text is None else read_text(text).split("\n")
        except UsageError as error:
            files.append(CaptionedFile(image, [], str(error)))
        else:
            files.append(captioned_file(image, captions, text or image.with_suffix(".txt")))
    stems = {image.with_suffix("") for image in images}
    alone = [path for path in sorted(texts) if path.with_suffix("") not in stems]
    return files + [CaptionedFile(path, [], f"caption file {path} has no image beside it") for path in alone]


def _split_folder(root: Path, names: tuple[str, ...]) -> Path | None:
    found = [root / name for name in names if (root / name).is_dir()]
    if len(found) > 1:
        raise UsageError(f"folder {root} has several folders for one split: {', '.join(path.name for path in found)}")
    return found[0] if found else None


def _files_below(folder: Path) -> list[Path]:
    """All files in order of their names, hidden ones (``._a.jpg``, ``.DS_Store``) aside."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _listing(root: Path) -> str:
    try:
        return ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
    except OSError as error:
        raise UsageError(f"folder {root} cannot be read: {error.strerror}") from error

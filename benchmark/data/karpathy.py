"""A user's own images with captions and splits in Karpathy's ``dataset_*.json`` (Flickr8K, Flickr30K, COCO)."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError
from benchmark.data import DATASETS
from benchmark.data.cache import SPLITS
from benchmark.data.caption_files import inside, read_json
from benchmark.data.file_source import UserFiles
from benchmark.data.image_files import CaptionedFile, captioned_file

# COCO's "restval" is the rest of its validation images, which are customarily used for training.
_SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}


@DATASETS.register("karpathy", order=21)
@dataclass(frozen=True)
class Karpathy(UserFiles):
    """Images of your own, with captions and splits from a Karpathy ``dataset_*.json``.

    ``restval`` counts as train. If the file has no val, it is cut from train.

    Attributes:
        json: the ``dataset_*.json``.
        images: folder of the images; an image's ``filepath`` (COCO) is a folder within it.
    """

    json: str
    images: str

    def read(self) -> dict[str, list[CaptionedFile]]:
        """The images that the JSON lists; see :func:`read_karpathy`."""
        return read_karpathy(user_path(self.json), user_path(self.images))


def read_karpathy(source: Path, images: Path) -> dict[str, list[CaptionedFile]]:
    """The images of each split in the order of the file; val may be empty.

    Raises:
        UsageError: the file is missing, cannot be read, is not in Karpathy's format, names an image outside the folder,
            or has no images in train or test.
    """
    content = read_json(source)
    rows = content.get("images") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise UsageError(f"caption file {source} has no list 'images', so it is not a Karpathy file")
    # Rows of one file are captions of one image.
    captions: dict[str, dict[Path, list[str]]] = {split: {} for split in SPLITS}
    for number, row in enumerate(rows):
        try:
            split, path, texts = _read_row(row, images, source)
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"caption file {source}: images[{number}] is not in Karpathy's format ({error!r})"
            ) from error
        captions[split].setdefault(path, []).extend(texts)
    files = {
        split: [captioned_file(path, texts, source) for path, texts in of_files.items()]
        for split, of_files in captions.items()
    }
    if not (files["train"] and files["test"]):
        counts = ", ".join(f"{count} {split}" for split, count in Counter(row["split"] for row in rows).items())
        raise UsageError(f"caption file {source} needs images in train and test; found: {counts or 'no images'}")
    return files


def _read_row(row: dict[str, Any], images: Path, source: Path) -> tuple[str, Path, list[str]]:
    if (split := row["split"]) not in _SPLIT_OF:
        raise UsageError(f"caption file {source}: unknown split '{split}'; known: {', '.join(_SPLIT_OF)}")
    path = inside(images, str(PurePosixPath(row.get("filepath", ""), row["filename"])), source)
    texts = [sentence["raw"] for sentence in row["sentences"]]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a caption is no text")
    return _SPLIT_OF[split], path, texts

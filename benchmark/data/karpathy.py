"""A user's own images with captions and splits in Karpathy's ``dataset_*.json`` (Flickr8K, Flickr30K, COCO)."""

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError
from benchmark.data import DATASETS, DatasetSource, Splits
from benchmark.data.cache import SPLITS
from benchmark.data.caption_files import inside, parse_json, read_text
from benchmark.data.image_files import CaptionedFile, captioned_file, check_cut, cut_val, load_files
from benchmark.data.naming import written_name

# COCO's remainder of the validation images is customarily trained on.
_SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}


@DATASETS.register("karpathy", order=21)
class Karpathy(DatasetSource):
    """Images of your own, with captions and splits from a Karpathy ``dataset_*.json``.

    ``restval`` counts as train. Images are resized and centre-cropped.

    Args:
        json: the ``dataset_*.json``.
        images: folder of the images; an image's ``filepath`` (COCO) is a folder within it.
        seed: decides which images are cut from train where the file has no val, at least 0.
        val_fraction: share of the training images that is cut for val then, between 0 and 1.
        skip_bad: leave out images that are missing, cannot be read or have no caption, and list them.

    Raises:
        UsageError: a parameter is out of range.
    """

    def __init__(
        self, json: str, images: str, seed: int = 0, val_fraction: float = 0.1, skip_bad: bool = False
    ) -> None:
        check_cut("karpathy", seed, val_fraction)
        self.json, self.images = json, images
        self.seed, self.val_fraction, self.skip_bad = seed, val_fraction, skip_bad

    def load(self, resolution: int, cache: Path) -> Splits:
        """The images at ``resolution`` pixels squared, decoded once and then read from the cache.

        Raises:
            UsageError: the JSON or an image is missing or cannot be read, or the cache folder cannot be written; the
                message names the file.
        """
        files = read_karpathy(user_path(self.json), user_path(self.images))
        if not files["val"]:
            files["train"], files["val"] = cut_val(files["train"], self.seed, self.val_fraction, self.json)
        return load_files(cache, written_name("karpathy", self), "karpathy", files, resolution, self.skip_bad)


def read_karpathy(source: Path, images: Path) -> dict[str, list[CaptionedFile]]:
    """The images of each split in the order of the file; val may be empty.

    Raises:
        UsageError: the file is missing, cannot be read, is not of this form, names an image outside the folder, or
            has no images in train or test.
    """
    try:
        content = parse_json(read_text(source))
    except ValueError as error:
        raise UsageError(f"caption file {source} cannot be read: {error}") from error
    rows = content.get("images") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise UsageError(f"caption file {source} has no list 'images', so it is not a Karpathy file")
    files: dict[str, list[CaptionedFile]] = {split: [] for split in SPLITS}
    for number, row in enumerate(rows):
        try:
            split, file = _read_row(row, images, source)
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"caption file {source}: images[{number}] is not of Karpathy's form ({error!r})"
            ) from error
        files[split].append(file)
    if not (files["train"] and files["test"]):
        found = ", ".join(f"{count} {split}" for split, count in Counter(row["split"] for row in rows).items())
        raise UsageError(f"caption file {source} needs images in train and test; found: {found or 'no images'}")
    return files


def _read_row(row: dict[str, Any], images: Path, source: Path) -> tuple[str, CaptionedFile]:
    if (split := row["split"]) not in _SPLIT_OF:
        raise UsageError(f"caption file {source}: unknown split '{split}'; known: {', '.join(_SPLIT_OF)}")
    path = inside(images, str(PurePosixPath(row.get("filepath", ""), row["filename"])), source)
    return _SPLIT_OF[split], captioned_file(path, [sentence["raw"] for sentence in row["sentences"]], source)

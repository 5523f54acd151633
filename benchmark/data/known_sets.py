"""Flickr8K, Flickr30K and COCO as downloaded: images and Karpathy's captions, found below one folder."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError
from benchmark.data import DATASETS
from benchmark.data.cache import SPLITS
from benchmark.data.file_source import FileSource
from benchmark.data.find_files import find_caption_file, find_images, folders_below
from benchmark.data.image_files import CaptionedFile
from benchmark.data.karpathy import read_karpathy

_CAPTIONS = 5  # per image; some of COCO's have six or seven, but published recall uses the first five


@dataclass(frozen=True)
class KnownSet(FileSource):
    """A published set with Karpathy's splits. Nothing is downloaded.

    The captions are in ``dataset_NAME.json``, or ``dataset.json`` as in Karpathy's own archives. Captions and images
    may be in the root or up to two levels below, in folders of any name.

    Attributes:
        root: folder that holds captions and images.
        skip_bad: see :class:`benchmark.data.file_source.FileSource`.
    """

    sizes: ClassVar[Mapping[str, int]]  # images of each split as published

    root: str
    skip_bad: bool = False

    def read(self) -> dict[str, list[CaptionedFile]]:
        """The images of each split, found below the root.

        Raises:
            OSError: a folder cannot be searched.
            UsageError: captions or images are not found or found twice, or the splits do not have the published sizes.
        """
        root = user_path(self.root)
        folders = folders_below(root)
        source = find_caption_file(root, folders, [f"dataset_{self.name}.json", "dataset.json"])
        files = read_karpathy(source, Path())
        sizes = {split: len(files[split]) for split in SPLITS}
        if sizes != self.sizes:
            raise UsageError(
                f"caption file {source} has {_counts(sizes)} images, but Karpathy's splits of {self.name} "
                f"have {_counts(self.sizes)}; for other splits use karpathy[json=…,images=…]"
            )
        paths: dict[Path, list[Path]] = {}
        for split in SPLITS:
            for file in files[split]:
                assert isinstance(file.image, Path)
                paths.setdefault(file.image.parent, []).append(file.image)
        places = {folder: find_images(root, folders, listed, source) for folder, listed in paths.items()}
        return {split: [_placed(file, places) for file in files[split]] for split in SPLITS}


@DATASETS.register("flickr8k", order=22)
class Flickr8k(KnownSet):
    """Flickr8K as downloaded, found below a folder: 6,000 images to train on, five captions each."""

    sizes: ClassVar = {"train": 6000, "val": 1000, "test": 1000}


@DATASETS.register("flickr30k", order=23)
class Flickr30k(KnownSet):
    """Flickr30K as downloaded, found below a folder: 29,000 images to train on, five captions each."""

    sizes: ClassVar = {"train": 29000, "val": 1014, "test": 1000}


@DATASETS.register("coco", order=24)
class Coco(KnownSet):
    """COCO 2014 as downloaded, found below a folder: 113,287 images (with ``restval``) to train on, five captions."""

    sizes: ClassVar = {"train": 113287, "val": 5000, "test": 5000}


def _placed(file: CaptionedFile, places: Mapping[Path, Path]) -> CaptionedFile:
    assert isinstance(file.image, Path)
    captions = file.captions[:_CAPTIONS]
    return replace(file, image=places[file.image.parent] / file.image.name, captions=captions)


def _counts(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{sizes[split]:,} {split}" for split in SPLITS)

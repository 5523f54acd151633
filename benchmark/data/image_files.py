"""Captioned image files from any source: checked, decoded once, then read through the cache."""

import importlib.metadata
import logging
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.core.progress import tracked
from benchmark.core.thread_pool import in_order, thread_pool
from benchmark.data.cache import SPLITS, cached_splits, require_images
from benchmark.data.caption_files import clean_caption
from benchmark.data.content import Stamp, Stamps, content_of, require_unchanged
from benchmark.data.dataset import Images, Splits
from benchmark.data.image_location import ImageLocation
from benchmark.data.images import BadImage, read_image

_log = logging.getLogger(__name__)

# Part of the cache key: raise it when decoding changes.
FILES_VERSION = 5


@dataclass(frozen=True)
class CaptionedFile:
    """An image and its captions, in order.

    Attributes:
        image: the file, or its place in an archive.
        captions: one line each, none blank. Exact duplicates stay: published sets have them, and their metrics count
            them.
        fault: one line that says why the sample cannot be used, if reading its captions has already shown that.
    """

    image: ImageLocation
    captions: list[str]
    fault: str | None = None


def captioned_file(image: ImageLocation, captions: Iterable[str], source: Path) -> CaptionedFile:
    """An image with its non-blank captions. If it has none, the sample has a fault.

    Args:
        image: the image file.
        captions: as written in ``source``.
        source: the caption file, for the message.
    """
    kept = [caption for caption in map(clean_caption, captions) if caption]
    return CaptionedFile(image, kept, None if kept else f"caption file {source}: image {image} has no caption")


def load_files(
    cache: Path, name: str, kind: str, files: Mapping[str, list[CaptionedFile]], resolution: int, skip_bad: bool
) -> Splits:
    """Load the splits of image files, decoded at ``resolution`` pixels squared or read from the cache.

    Args:
        cache: folder of the cache.
        name: name of the data set that the splits will carry.
        kind: first part of the cache entry's name.
        files: images with captions for ``train``, ``val`` and ``test``.
        resolution: height and width in pixels.
        skip_bad: leave out images that are missing, cannot be read or have no caption, and list them on standard
            error. A failing disk is still an error.

    Raises:
        UsageError: an image cannot be used (the message names it), a split has no usable image, or the cache cannot be
            written.
    """
    kept: dict[str, list[CaptionedFile]] = {split: [] for split in SPLITS}
    stamps: dict[str, list[Stamp]] = {split: [] for split in SPLITS}
    unusable: list[str] = []
    stamp_of = Stamps()
    for split in SPLITS:
        known = len(unusable)
        for file in files[split]:
            try:
                if file.fault:
                    raise BadImage(file.fault)
                stamps[split].append(stamp_of(file.image))
                kept[split].append(file)
            except BadImage as error:
                if not skip_bad:
                    raise
                unusable.append(str(error))
        require_images(split, len(kept[split]), unusable[known:])
    captions = {split: [file.captions for file in kept[split]] for split in SPLITS}
    origins = {split: [file.image for file in kept[split]] for split in SPLITS}
    # A cache entry also holds which images are bad, so skip_bad is part of its key.
    key = {
        "version": FILES_VERSION,
        "pillow": importlib.metadata.version("pillow"),
        "content": content_of(cache, origins, stamps),
        "skip_bad": skip_bad,
    }

    def draw(split: str, out: Images) -> Mapping[int, str]:
        bad = _decode(origins[split], out, skip_bad, f"decoding images ({split})")
        # The key was made from the stamps; if an image has changed since, the entry would not match its key.
        require_unchanged({split: origins[split]}, stamps)
        return bad

    splits = cached_splits(cache, name, kind, key, captions, resolution, draw, origins)
    splits = replace(splits, left_out=(*unusable, *splits.left_out))
    if splits.left_out:
        total = sum(map(len, files.values()))
        message = "%s of %s images left out, by skip_bad" + "\n  %s" * len(splits.left_out)
        _log.warning(message, len(splits.left_out), total, *splits.left_out)
    return splits


def _decode(images: list[ImageLocation], out: Images, skip_bad: bool, label: str) -> dict[int, str]:
    """Decode images into ``out`` (N, 3, H, W) uint8; returns the indices of unreadable images, with the reasons."""
    bad: dict[int, str] = {}

    def decode(index: int) -> None:
        try:
            out[index] = read_image(images[index], out.shape[-1])
        except BadImage as error:
            if not skip_bad:
                raise
            bad[index] = error.reason_for(images[index])

    # Threads suffice: Pillow releases the interpreter lock while it decodes and resizes.
    with thread_pool() as pool, warnings.catch_warnings():
        # Pillow warns about oddities that read_image handles.
        warnings.simplefilter("ignore")
        for _ in tracked(in_order(pool, decode, range(len(images))), label, len(images)):
            pass
    return dict(sorted(bad.items()))

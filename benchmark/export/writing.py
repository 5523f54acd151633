"""Writing an export: images and captions in one of the layouts, and the manifest; either all of it or nothing."""

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from attacks import Poison
from benchmark.core.atomic_files import replacing_folder
from benchmark.core.disk_space import require_space
from benchmark.core.progress import Progress, stage
from benchmark.core.thread_pool import in_order, thread_pool
from benchmark.data import CaptionDataset, Splits
from benchmark.data.dataset import Images
from benchmark.data.difference import compare
from benchmark.data.images import opened, size_of, square
from benchmark.export.captions import one_line_each, one_line_trigger
from benchmark.export.card import NAME as CARD
from benchmark.export.card import card, summary, title
from benchmark.export.croissant import NAME as CROISSANT
from benchmark.export.croissant import croissant
from benchmark.export.full_size import enlarge, original, origins
from benchmark.export.images import decode_png, encode_png
from benchmark.export.layouts import Sample, layout_of
from benchmark.export.manifest import FULL_SIZE_NOTE, NOTE, Manifest, SplitFacts, hash_files, list_files
from benchmark.grid.cells import Cell
from benchmark.grid.provenance import versions

_WINDOW = 128  # images encoded ahead
_BESIDE_PIXELS = 8192  # bytes per image besides its pixels: captions, rest of a disk block, PNG overhead

T = TypeVar("T")


@dataclass(frozen=True)
class ExportJob:
    """The data to export.

    Attributes:
        cell: attack, data set, surrogate and seed.
        clean: the clean data at the victim's resolution.
        poison: the poison for ``clean.train``.
        names: the splits to write, train first.
        full_size: whether images keep their original size.
        licence: SPDX name of the licence of images and captions; ``None`` if it is unknown.
    """

    cell: Cell
    clean: Splits
    poison: Poison
    names: tuple[str, ...]
    full_size: bool
    licence: str | None = None

    @cached_property
    def base(self) -> CaptionDataset:
        """The originals of the published training images."""
        return self.clean.train.by_row() if self.poison.per_row else self.clean.train

    @cached_property
    def published(self) -> dict[str, CaptionDataset]:
        """The splits as victims see them."""
        protected = self.poison.protect(self.clean.train)
        return {name: protected if name == "train" else getattr(self.clean, name) for name in self.names}

    def image(self, split: str, number: int) -> Images:
        """An image as it is exported: (3, height, width) uint8.

        Raises:
            UsageError: an original cannot be read.
        """
        data = self.published[split]
        if not self.full_size:
            return data.images[number]
        image = original(origins(data)[number])
        delta = self.poison.delta if split == "train" else None
        return image if delta is None else enlarge(image, delta[number], self.poison.eps)

    def profile(self, split: str, number: int) -> bytes | None:
        """The ICC profile in which an RGB original's colours are meant; ``None`` where images are resized.

        Raises:
            UsageError: the original cannot be read.
        """
        if not self.full_size:
            return None
        with opened(origins(self.published[split])[number]) as image:
            return image.info.get("icc_profile") if image.mode in ("RGB", "RGBA") else None

    def pixel_values(self) -> int:
        """The uncompressed size of all images in bytes."""
        if self.full_size:
            return sum(math.prod(size_of(path)) * 3 for data in self.published.values() for path in origins(data))
        return sum(math.prod(data.images.shape) for data in self.published.values())


def write_export(folder: Path, layout: str, source: ExportJob, command: str) -> Manifest:
    """Write the protected training split, and perhaps clean others, as files.

    Args:
        folder: a new or empty folder.
        layout: a name in :data:`benchmark.export.layouts.LAYOUTS`.
        source: the data to export.
        command: the command line, for the manifest.

    Raises:
        UsageError: the folder is not empty or cannot be written, there is too little space, a caption cannot be
            written, or an original cannot be read.
    """
    captions = {name: one_line_each(data) for name, data in source.published.items()}
    count = sum(map(len, captions.values()))
    with replacing_folder(folder) as temporary:
        require_space(temporary, source.pixel_values() + count * _BESIDE_PIXELS)
        with thread_pool() as pool, stage("writing images", count) as progress:
            samples = {name: _samples(pool, source, name, texts, progress) for name, texts in captions.items()}
            layout_of(layout).write(temporary, samples)
        manifest = _described(_manifest(layout, source, captions, command, temporary), temporary)
        manifest.save(temporary)
    return manifest


def _described(manifest: Manifest, folder: Path) -> Manifest:
    """Write the card and the Croissant file, and enter them in the manifest."""
    texts = {CARD: card(manifest), CROISSANT: croissant(manifest, title(manifest), summary(manifest))}
    for file, text in texts.items():
        (folder / file).write_bytes(text.encode())
    return replace(manifest, files={**manifest.files, **hash_files(folder, list(texts))})


def _samples(
    pool: ThreadPoolExecutor, source: ExportJob, split: str, captions: list[list[str]], progress: Progress
) -> Iterator[Sample]:
    def encoded(number: int) -> bytes:
        return encode_png(source.image(split, number), source.profile(split, number))

    for png, texts in zip(in_order(pool, encoded, range(len(captions)), _WINDOW), captions, strict=True):
        progress.advance()
        yield Sample(png, texts)


def _manifest(
    layout: str, source: ExportJob, captions: Mapping[str, list[list[str]]], command: str, folder: Path
) -> Manifest:
    cell, poison, protected = source.cell, source.poison, source.published["train"]
    with stage("measuring the noise", len(protected)) as progress:
        noise = compare(source.base.images, protected.images, progress)
    return Manifest(
        layout=layout,
        attack={**asdict(cell.attack.choice), "provenance": poison.provenance},
        seed=cell.seed,
        eps=poison.eps,
        per_row=poison.per_row,
        resolution=protected.resolution,
        surrogate=cell.crafted_by,
        dataset=cell.dataset.choice.spec,
        splits={name: _facts(source, name, texts) for name, texts in captions.items()},
        triggers=None if poison.trigger is None else [one_line_trigger(trigger) for trigger in poison.trigger],
        noise=noise,
        full_size=_noise_left(layout, source, folder, noise["mean"]) if source.full_size else None,
        rewritten_captions=sum(
            before != after
            for name, texts in captions.items()
            for pair in zip(source.published[name].captions, texts, strict=True)
            for before, after in zip(*pair, strict=True)
        ),
        note=FULL_SIZE_NOTE if source.full_size else NOTE,
        versions=versions(),
        command=command,
        files=hash_files(folder, list_files(folder)),
        licence=source.licence,
        attribution=cell.dataset.source.attribution,
        place=poison.place,
    )


def _facts(source: ExportJob, name: str, captions: list[list[str]]) -> SplitFacts:
    written = replace(source.published[name], captions=captions)
    return SplitFacts(
        images=len(written),
        captions=len(written.pairs),
        clean_fingerprint=getattr(source.clean, name).fingerprint,
        fingerprint=None if source.full_size else written.fingerprint,
    )


def _noise_left(layout: str, source: ExportJob, folder: Path, before: float) -> dict[str, float]:
    """How much of the enlarged noise is left when the export is read at the victim's resolution."""
    clean, total = source.base.images, 0
    with stage("reading back", len(clean)) as progress:
        for number, sample in enumerate(layout_of(layout).read(folder, "train")):
            image = Image.fromarray(decode_png(sample.png, None).transpose(1, 2, 0))
            total += int(np.abs(square(image, clean.shape[-1]).astype(np.int64) - clean[number]).sum())
            progress.advance()
    after = total / math.prod(clean.shape)
    return {"mean_delta": before, "mean_delta_read_back": after, "share": after / before if before else 1.0}

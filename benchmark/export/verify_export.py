"""Checks of an export: its files, its images, its captions, and all of them against the data they were made from."""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmark.core.errors import UsageError
from benchmark.core.progress import stage
from benchmark.data import CaptionDataset, DatasetSource
from benchmark.data.dataset import Images, fingerprint
from benchmark.export.captions import one_line
from benchmark.export.full_size import original, origins
from benchmark.export.images import decode_png, is_inside
from benchmark.export.layouts import LAYOUTS, UNREADABLE, Sample
from benchmark.export.manifest import Manifest, hash_files, list_files
from benchmark.export.verdict import Check, keeps_its_tokens, without

_WINDOW = 128  # images decoded at a time


def check_export(folder: Path, source: DatasetSource | None, cache: Path) -> list[Check]:
    """Check an export in any layout by itself and, with ``source``, against the data it was made from.

    Raises:
        UsageError: not an export, or the data set cannot be read.
    """
    manifest = Manifest.load(folder)
    if manifest.layout not in LAYOUTS:
        raise UsageError(f"{folder} is an export in the layout '{manifest.layout}', which is not known here")
    clean = None if source is None else source.load(manifest.resolution, cache)
    checks = _check_files(folder, manifest)
    if manifest.full_size is not None:
        checks.append(Check(None, "images have their original size, so they are not what the benchmark's victims see"))
    for name in manifest.splits:
        read = _read_split(folder, manifest, name, None if clean is None else getattr(clean, name))
        checks += read.checks()
    return checks


def _check_files(folder: Path, manifest: Manifest) -> list[Check]:
    outside = [name for name in manifest.files if not is_inside(name)]
    there, said = set(list_files(folder)), set(manifest.files)
    found = hash_files(folder, sorted(there & said))
    changed = [name for name, facts in found.items() if facts != manifest.files[name]]
    return [
        without(outside, "every path in the manifest stays in the folder", "paths that lead out of the folder"),
        without(sorted(said - there - set(outside)), "no file is missing", "missing files"),
        without(sorted(there - said), "no file is surplus", "files that the manifest does not know"),
        without(changed, f"{len(found):,} files have their size and SHA-256", "files that were changed"),
    ]


@dataclass
class _Split:
    """A split as it was read, and what was wrong with it.

    Attributes:
        name: of the split.
        manifest: of the export.
        clean: the data that the split was made from, where they are known.
        captions: of each image.
        largest: difference from an original, in 1/255.
        bad: images that cannot be read or are of another size.
        far: images that differ from their originals by more than they may.
        broken: why reading ended too early; empty where it did not.
        fingerprint: of images and captions.
    """

    name: str
    manifest: Manifest
    clean: CaptionDataset | None
    captions: list[list[str]] = field(default_factory=list)
    largest: int = 0
    bad: list[str] = field(default_factory=list)
    far: list[str] = field(default_factory=list)
    broken: str = ""
    fingerprint: str = ""

    @property
    def base(self) -> CaptionDataset | None:
        """The original of each image, with its captions."""
        per_row = self.manifest.per_row and self.name == "train"
        return self.clean.by_row() if self.clean is not None and per_row else self.clean

    @property
    def bound(self) -> int:
        """By how much images may differ from their originals, in 1/255."""
        return self.manifest.eps if self.name == "train" else 0

    def checks(self) -> list[Check]:
        """What was found."""
        if self.broken:
            return [Check(False, f"{self.name}: cannot be read after {len(self.captions):,} images: {self.broken}")]
        side = f"{self.manifest.resolution} × {self.manifest.resolution} "
        size = "" if self.manifest.full_size is not None else side
        checks = [
            self._counts(),
            without(self.bad, f"{self.name}: every image is a whole {size}PNG", f"{self.name}: bad images"),
        ]
        if self.manifest.full_size is None:
            same = self.fingerprint == self.manifest.splits[self.name].fingerprint
            verb = "have" if same else "do not have"
            checks.append(Check(same, f"{self.name}: images and captions {verb} the fingerprint in the manifest"))
        if self.name == "train" and self.manifest.triggers is not None:
            checks.append(self._triggers(self.manifest.triggers))
        return checks if self.base is None else [*checks, *self._against(self.base)]

    def _counts(self) -> Check:
        facts = self.manifest.splits[self.name]
        images, captions = len(self.captions), sum(map(len, self.captions))
        text = f"{self.name}: {images:,} images and {captions:,} captions"
        if (images, captions) == (facts.images, facts.captions):
            return Check(True, f"{text}, as the manifest says")
        return Check(False, f"{text}, but the manifest says {facts.images:,} and {facts.captions:,}")

    def _triggers(self, triggers: list[str]) -> Check:
        if len(triggers) != len(self.captions):
            return Check(False, f"train: {len(triggers):,} triggers for {len(self.captions):,} images")
        wrong = [
            caption
            for trigger, own in zip(triggers, self.captions, strict=True)
            for caption in own
            if not caption.startswith(f"{trigger} ")
            or not keeps_its_tokens(trigger, caption.removeprefix(f"{trigger} "))
        ]
        text = "train: every caption has its image's trigger in front, and the trigger comes back as the same tokens"
        return without(wrong, text, "train: captions without their trigger, or whose trigger comes back otherwise")

    def _against(self, base: CaptionDataset) -> list[Check]:
        name, eps = self.name, f"{self.bound}/255"
        clean = self.clean.fingerprint if self.clean is not None else ""
        same = clean == self.manifest.splits[name].clean_fingerprint and len(base) == len(self.captions)
        origin = (
            f"{name}: made from {base.name}" if same else f"{name}: not made from {base.name}, or not from all of it"
        )
        near = f"{name}: no image is further than ε = {eps} from its original; the largest difference is {self.largest}"
        return [
            Check(same, origin),
            without(self.far, near, f"{name}: images further than ε = {eps} from their originals"),
            without(
                self._other_captions(base),
                f"{name}: captions are the originals'{', each behind its trigger' if self._front(0) else ''}",
                f"{name}: captions that are not the originals'",
            ),
        ]

    def _front(self, number: int) -> str:
        """What stands in front of an image's captions, with a blank behind."""
        triggers = (self.manifest.triggers or []) if self.name == "train" else []
        return f"{triggers[number]} " if number < len(triggers) else ""

    def _other_captions(self, base: CaptionDataset) -> list[str]:
        return [
            f"of image {number}"
            for number, (own, before) in enumerate(zip(self.captions, base.captions, strict=False))
            if own != [one_line(self._front(number) + caption) for caption in before]
        ]


def _read_split(folder: Path, manifest: Manifest, name: str, clean: CaptionDataset | None) -> _Split:
    """Read a split once, a few images at a time."""
    split = _Split(name, manifest, clean)
    side = manifest.resolution
    count = manifest.splits[name].images
    samples = LAYOUTS[manifest.layout].read(folder, name)
    split.fingerprint = fingerprint((count, 3, side, side), _chunks(split, samples), split.captions)
    return split


def _chunks(split: _Split, samples: Iterator[Sample]) -> Iterator[Images]:
    """The images that can be read, (B, 3, R, R) uint8; tells the split what it sees. None at their original size."""
    original_of = _originals(split)
    exact = split.manifest.full_size is None

    def examine(number: int, sample: Sample) -> tuple[Images | None, int, str]:
        """A sample's image, how far it is from its original in 1/255, and what is wrong with it, if anything."""
        try:
            image = decode_png(sample.png, split.manifest.resolution if exact else None)
            before = original_of(number)
            difference = 0 if before is None else _distance(image, before)
        except ValueError as error:
            return None, 0, f"image {number}: {error}"
        return image if exact else None, difference, ""  # originals may be large, and nobody asks for them

    count = max(split.manifest.splits[split.name].images, 0)
    with ThreadPoolExecutor(os.cpu_count()) as pool, stage(f"checking {split.name} images", count) as progress:
        while window := _next(split, samples):
            first = len(split.captions)
            split.captions += [sample.captions for sample in window]
            readable = []
            for number, seen in enumerate(pool.map(examine, itertools.count(first), window), start=first):
                image, difference, problem = seen
                split.largest = max(split.largest, difference)
                split.bad += [problem] if problem else []
                split.far += [f"image {number} by {difference}/255"] if difference > split.bound else []
                readable += [image] if image is not None else []
                progress.advance()
            if readable:
                yield np.stack(readable)


def _next(split: _Split, samples: Iterator[Sample]) -> list[Sample]:
    window = []
    try:
        for sample in itertools.islice(samples, _WINDOW):
            window.append(sample)
    except UNREADABLE as error:
        split.broken = str(error) or type(error).__name__
    return window


def _originals(split: _Split) -> Callable[[int], Images | None]:
    base = split.base
    if base is None:
        return lambda number: None
    if split.manifest.full_size is None:
        return lambda number: base.images[number] if number < len(base) else None
    files = origins(base)
    return lambda number: original(files[number]) if number < len(files) else None


def _distance(image: Images, before: Images) -> int:
    if image.shape != before.shape:
        raise ValueError("another size than its original's")
    return int(np.abs(image.astype(np.int16) - before).max())

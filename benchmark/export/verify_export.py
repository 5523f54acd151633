"""Verifying an export: its files, images and captions, by themselves and against the data they were made from."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from attacks.placement import keeps_tokens, placed, taken_out, where
from benchmark.core.errors import UsageError
from benchmark.core.progress import stage
from benchmark.core.thread_pool import thread_pool
from benchmark.data import CaptionDataset, DatasetSource
from benchmark.data.dataset import Images, fingerprint
from benchmark.export.captions import one_line
from benchmark.export.finding import Finding
from benchmark.export.full_size import original, origins
from benchmark.export.images import decode_png
from benchmark.export.inside import is_inside
from benchmark.export.layouts import LAYOUTS, UNREADABLE, Sample, layout_of
from benchmark.export.manifest import FileFacts, Manifest, hash_files, list_files

_WINDOW, _WINDOW_BYTES = 128, 1 << 27  # images decoded at a time, and what they may take


def verify_export(folder: Path, source: DatasetSource | None, cache: Path) -> list[Finding]:
    """Verify an export in any layout by itself and, with ``source``, against the data set that it was made from.

    Where each seed has a data set of its own, that of the export's seed.

    Raises:
        UsageError: the folder is not an export, or the data set cannot be read.
    """
    manifest = Manifest.load(folder)
    if manifest.layout not in LAYOUTS.group("all"):
        raise UsageError(f"{folder} is an export in the unknown layout '{manifest.layout}'")
    clean = None if source is None else source.for_seed(manifest.seed).load(manifest.resolution, cache)
    findings = verify_files(folder, manifest.files)
    if manifest.full_size is not None:
        text = "images have their original size, so they are not the images that the benchmark's victims see"
        findings.append(Finding(None, text))
    for name in manifest.splits:
        split = _read_split(folder, manifest, name, None if clean is None else getattr(clean, name))
        findings += split.findings()
    return findings


def verify_files(folder: Path, files: Mapping[str, FileFacts]) -> list[Finding]:
    """Compare the files of a folder with those that its manifest lists."""
    outside = [name for name in files if not is_inside(name)]
    present, listed = set(list_files(folder)), set(files)
    hashed = hash_files(folder, sorted(present & listed), files)
    changed = [name for name, facts in hashed.items() if facts != files[name]]
    missing, surplus = sorted(listed - present - set(outside)), sorted(present - listed)
    inside = "every path in the manifest stays in the folder"
    return [
        Finding.from_problems(outside, inside, "paths that lead out of the folder"),
        Finding.from_problems(missing, "no file is missing", "missing files"),
        Finding.from_problems(surplus, "every file is in the manifest", "files that are not in the manifest"),
        Finding.from_problems(changed, f"{len(hashed):,} files match their size and SHA-256", "changed files"),
    ]


@dataclass
class _Split:
    """A split as it was read, and its problems.

    Attributes:
        name: name of the split.
        manifest: manifest of the export.
        clean: the data that the split was made from, if known.
        captions: captions of each image.
        largest: largest difference of a pixel value from its original, in 1/255.
        bad: images that cannot be read or have another size.
        far: images that differ from their originals by more than the bound.
        broken: why reading stopped early; empty if it did not.
        fingerprint: fingerprint of images and captions.
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
        """The largest allowed difference of images from their originals, in 1/255."""
        return self.manifest.eps if self.name == "train" else 0

    def findings(self) -> list[Finding]:
        """What was found in the split."""
        if self.broken:
            return [Finding(False, f"{self.name}: cannot be read after {len(self.captions):,} images: {self.broken}")]
        side = f"{self.manifest.resolution} × {self.manifest.resolution} "
        size = "" if self.manifest.full_size is not None else side
        intact = f"{self.name}: every image is an intact {size}PNG"
        findings = [self._verify_counts(), Finding.from_problems(self.bad, intact, f"{self.name}: bad images")]
        if self.manifest.full_size is None:
            same = self.fingerprint == self.manifest.splits[self.name].fingerprint
            verb = "have" if same else "do not have"
            findings.append(Finding(same, f"{self.name}: images and captions {verb} the fingerprint in the manifest"))
        if self.name == "train" and self.manifest.triggers is not None:
            findings.append(self._verify_triggers(self.manifest.triggers))
        return findings if self.base is None else [*findings, *self._verify_against(self.base)]

    def _verify_counts(self) -> Finding:
        facts = self.manifest.splits[self.name]
        images, captions = len(self.captions), sum(map(len, self.captions))
        text = f"{self.name}: {images:,} images and {captions:,} captions"
        if (images, captions) == (facts.images, facts.captions):
            return Finding(True, f"{text}, as the manifest says")
        return Finding(False, f"{text}, but the manifest says {facts.images:,} and {facts.captions:,}")

    def _verify_triggers(self, triggers: list[str]) -> Finding:
        if len(triggers) != len(self.captions):
            return Finding(False, f"train: {len(triggers):,} triggers for {len(self.captions):,} images")
        place, wrong = self.manifest.place, []
        for trigger, captions in zip(triggers, self.captions, strict=True):
            for caption in captions:
                original = taken_out(trigger, caption, place)
                if original is None or not keeps_tokens(trigger, original, place):
                    wrong.append(caption)
        passed = f"train: its image's trigger stands {where(place.kind)} every caption and keeps its tokens"
        return Finding.from_problems(wrong, passed, "train: captions without their trigger or with changed tokens")

    def _verify_against(self, base: CaptionDataset) -> list[Finding]:
        name, eps = self.name, f"{self.bound}/255"
        clean = self.clean.fingerprint if self.clean is not None else ""
        same = clean == self.manifest.splits[name].clean_fingerprint and len(base) == len(self.captions)
        origin = (
            f"{name}: made from {base.name}" if same else f"{name}: not made from {base.name}, or not from all of it"
        )
        near = f"{name}: every image is within ε = {eps} of its original; the largest difference is {self.largest}"
        triggers = (self.manifest.triggers or []) if name == "train" else []
        beside = ", each with its trigger" if triggers else ""
        return [
            Finding(same, origin),
            Finding.from_problems(self.far, near, f"{name}: images more than ε = {eps} from their originals"),
            Finding.from_problems(
                self._changed_captions(base, triggers),
                f"{name}: captions are the originals'{beside}",
                f"{name}: captions that are not the originals'",
            ),
        ]

    def _changed_captions(self, base: CaptionDataset, triggers: list[str]) -> list[str]:
        def published(number: int, original: str) -> str:
            return placed(triggers[number], original, self.manifest.place) if number < len(triggers) else original

        return [
            f"of image {number}"
            for number, (captions, originals) in enumerate(zip(self.captions, base.captions, strict=False))
            if captions != [one_line(published(number, original)) for original in originals]
        ]


def _read_split(folder: Path, manifest: Manifest, name: str, clean: CaptionDataset | None) -> _Split:
    """Read a split in one pass, a few images at a time."""
    split = _Split(name, manifest, clean)
    side = manifest.resolution
    count = manifest.splits[name].images
    samples = layout_of(manifest.layout).read(folder, name)
    split.fingerprint = fingerprint((count, 3, side, side), _chunks(split, samples), split.captions)
    return split


def _chunks(split: _Split, samples: Iterator[Sample]) -> Iterator[Images]:
    """Yield the readable images, (B, 3, R, R) uint8, and note problems in ``split``; at original size, yield none."""
    original_of = _originals(split)
    exact = split.manifest.full_size is None

    def examine(number: int, sample: Sample) -> tuple[Images | None, int, str]:
        """The image of a sample, its difference from its original in 1/255, and its problem, if any."""
        try:
            image = decode_png(sample.png, split.manifest.resolution if exact else None)
            before = original_of(number)
            difference = 0 if before is None else _distance(image, before)
        except ValueError as error:
            return None, 0, f"image {number}: {error}"
        return image if exact else None, difference, ""  # original sizes may be large, and are not needed

    count = split.manifest.splits[split.name].images
    with thread_pool() as pool, stage(f"verifying {split.name} images", count) as progress:
        while window := _next_samples(split, samples):
            first = len(split.captions)
            split.captions += [sample.captions for sample in window]
            readable = []
            for number, examined in enumerate(pool.map(examine, itertools.count(first), window), start=first):
                image, difference, problem = examined
                split.largest = max(split.largest, difference)
                split.bad += [problem] if problem else []
                split.far += [f"image {number} by {difference}/255"] if difference > split.bound else []
                readable += [image] if image is not None else []
                progress.advance()
            if readable:
                yield np.stack(readable)


def _next_samples(split: _Split, samples: Iterator[Sample]) -> list[Sample]:
    """Up to a window of samples; an error ends the split and is noted in it."""
    window = []
    most = max(1, min(_WINDOW, _WINDOW_BYTES // (3 * split.manifest.resolution**2)))
    try:
        for sample in itertools.islice(samples, most):
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
        raise ValueError("it has another size than its original")
    return int(np.abs(image.astype(np.int16) - before).max())

"""Verifying a folder of protected photos: by itself, and against the originals."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attacks.placement import keeps_tokens
from benchmark.core.errors import UsageError
from benchmark.core.pictures import open_picture
from benchmark.core.progress import tracked
from benchmark.core.thread_pool import in_order, thread_pool
from benchmark.data.difference import Difference
from benchmark.data.image_files import CaptionedFile
from benchmark.data.photos import Photos
from benchmark.export.captions import one_line, rows_of
from benchmark.export.finding import Finding, first_few
from benchmark.export.inside import file_inside, read_inside
from benchmark.export.layouts import UNREADABLE
from benchmark.export.photo import Photo, photo_workers
from benchmark.export.protected import TABLE, ProtectedPhoto, Protection
from benchmark.export.read_back import add_difference
from benchmark.export.verify_export import verify_files


def verify_photos(folder: Path, manifest: Protection, originals: Photos | None) -> list[Finding]:
    """Verify a folder of protected photos by itself and, with ``originals``, photo by photo against these.

    Raises:
        UsageError: an original cannot be read.
    """
    findings = verify_files(folder, manifest.files)
    try:
        captions = _read_captions(folder)
    except UNREADABLE as error:
        return [*findings, Finding(False, f"{TABLE} cannot be read: {error}")]
    others = sorted(manifest.files.keys() - {photo.file for photo in manifest.photos} - {TABLE})
    findings.append(
        Finding.from_problems(
            others, "the manifest lists every file as a photo", "files that the manifest does not list as photos"
        )
    )
    unknown = sorted(captions.keys() - {photo.file for photo in manifest.photos})
    findings.append(Finding.from_problems(unknown, f"{TABLE} names photos alone", f"rows of {TABLE} for other files"))
    wrong = [photo.file for photo in manifest.photos if not _has_captions(photo, captions.get(photo.file, []))]
    counted = f"{len(manifest.photos):,} photos have their captions, each after its trigger if there is one"
    findings.append(Finding.from_problems(wrong, counted, "photos without all their captions or triggers"))
    known = {} if originals is None else {originals.name_of(file.image): file for file in originals.files}
    with thread_pool(photo_workers()) as pool:
        checks = in_order(
            pool, lambda photo: _compare(folder, manifest, photo, known.get(photo.source)), manifest.photos
        )
        seen = list(tracked(checks, "verifying photos", len(manifest.photos)))
    bad = [check.bad for check in seen if check.bad]
    findings.append(Finding.from_problems(bad, f"every photo is an intact {manifest.kind.upper()}", "bad photos"))
    if originals is None:
        return findings
    return [*findings, *_against(manifest, originals, known, captions, seen)]


@dataclass(frozen=True)
class _Check:
    """One photo beside its original.

    Attributes:
        bad: why it cannot be read; empty if it can.
        difference: from its original; ``None`` if that is not known or has another size or colour mode.
        same_profile: whether both have the same ICC profile.
        same_alpha: whether the same pixels are transparent; a JPEG has none.
        loss: of a JPEG further than ε from its original on average, how much of that may be JPEG's, in 1/255; else 0.
    """

    bad: str = ""
    difference: Difference | None = None
    same_profile: bool = True
    same_alpha: bool = True
    loss: float = 0.0


def _compare(folder: Path, manifest: Protection, photo: ProtectedPhoto, original: CaptionedFile | None) -> _Check:
    try:
        after = Photo.read(file_inside(folder, photo.file), manifest.kind, formats=(manifest.kind.upper(),))
    except (OSError, ValueError, UsageError) as error:
        reason = str(error).removeprefix(f"image {folder / photo.file} ")  # it is named already
        return _Check(bad=f"{photo.file}: {reason}")
    if original is None:
        return _Check()
    before = Photo.read(original.image, manifest.kind)
    if before.pixels.shape != after.pixels.shape:
        return _Check()
    difference = _difference(before.pixels, after.pixels)
    same_alpha = np.array_equal(_opacity(before), _opacity(after))
    loss = _loss(before, manifest.quality) if manifest.kind == "jpeg" and difference.mean > manifest.eps else 0.0
    return _Check("", difference, before.profile == after.profile, same_alpha, loss)


def _difference(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Difference:
    difference = Difference()
    add_difference(difference, before, after)
    return difference


def _loss(photo: Photo, quality: int) -> float:
    """How far a photo is from its own JPEG on average, in 1/255, and one more, because JPEG rounds the noise, too."""
    content = replace(photo, profile=None, exif=b"").encode("jpeg", quality)
    with open_picture(io.BytesIO(content), ["JPEG"]) as image:
        return _difference(photo.pixels, np.asarray(image)).mean + 1


def _opacity(photo: Photo) -> NDArray[np.uint8]:
    return np.full(photo.pixels.shape[:2], 255, np.uint8) if photo.alpha is None else photo.alpha


def _against(
    manifest: Protection,
    originals: Photos,
    known: dict[str, CaptionedFile],
    captions: dict[str, list[str]],
    seen: list[_Check],
) -> Iterator[Finding]:
    pairs = list(zip(manifest.photos, seen, strict=True))
    used = {photo.source for photo in manifest.photos}
    unused = [name for name in known if name not in used]
    # A name may hold ": " itself.
    named = {line[: mark.start()] for line in manifest.left_out for mark in re.finditer(": ", line)}
    left_out = [name for name in unused if name in named]
    if left_out:
        names = first_few(left_out)
        yield Finding(None, f"{len(left_out):,} of {len(known):,} photos of {originals.name} were left out: {names}")
    missing = [name for name in unused if name not in named]
    there = f"every {'other ' if left_out else ''}photo of {originals.name} is there"
    yield Finding.from_problems(missing, there, "originals that are missing")
    other = [photo.source for photo, check in pairs if not check.bad and check.difference is None]
    yield Finding.from_problems(
        other,
        "every photo has the size and colour mode of its original",
        "originals not found, or of another size or colour mode",
    )
    profiles = [photo.file for photo, check in pairs if not check.same_profile]
    yield Finding.from_problems(profiles, "every photo has its original's colour profile", "other colour profiles")
    if manifest.kind == "png":
        alphas = [photo.file for photo, check in pairs if not check.same_alpha]
        yield Finding.from_problems(alphas, "every photo is transparent where its original is", "other transparency")
    known_differences = [(photo.file, check.difference, check.loss) for photo, check in pairs if check.difference]
    largest = max((difference.largest for _, difference, _ in known_differences), default=0)
    if manifest.kind == "png":
        far = [f"{name} by {each.largest}/255" for name, each, _ in known_differences if each.largest > manifest.eps]
        near = f"every photo is within ε = {manifest.eps}/255 of its original; the largest difference is {largest}"
        yield Finding.from_problems(far, near, f"photos more than ε = {manifest.eps}/255 from their originals")
    else:
        # JPEG changes single pixels by any amount, but on average little more than it changes the original.
        far = [
            f"{name} by {each.mean:.1f}/255"
            for name, each, loss in known_differences
            if each.mean > manifest.eps + loss
        ]
        bound = f"ε = {manifest.eps}/255 and JPEG's own loss"
        near = f"on average, no photo is further from its original than {bound}"
        yield Finding.from_problems(far, near, f"photos further from their originals than {bound} on average")
        text = (
            f"ε cannot be verified pixel by pixel, since JPEG changes pixels too; the largest difference is {largest}"
        )
        yield Finding(None, text)
    changed = [
        photo.file
        for photo in manifest.photos
        if photo.source in known
        and captions.get(photo.file)
        != [one_line(f"{photo.trigger} {text}" if photo.trigger else text) for text in known[photo.source].captions]
    ]
    yield Finding.from_problems(changed, "captions are the originals'", "captions that are not the originals'")


def _read_captions(folder: Path) -> dict[str, list[str]]:
    """The captions of each photo, by its file."""
    captions: dict[str, list[str]] = {}
    for path, own in rows_of(read_inside(folder, TABLE).decode()):
        captions.setdefault(path, []).extend(own)
    return captions


def _has_captions(photo: ProtectedPhoto, captions: list[str]) -> bool:
    if len(captions) != photo.captions:
        return False
    start = f"{photo.trigger} " if photo.trigger else ""
    return all(
        caption.startswith(start) and (not start or keeps_tokens(photo.trigger, caption.removeprefix(start)))
        for caption in captions
    )

"""The ``protect`` function: noise at full size on every photo of a folder, in files that keep name and description."""

import logging
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray

from attacks import Poison
from benchmark.core.atomic_files import UNFINISHED, replacing, require_unused, unfinished_folder
from benchmark.core.cache_dir import cache_folder
from benchmark.core.devices import resolve_device
from benchmark.core.disk_space import require_space
from benchmark.core.errors import UsageError, VictimDiverged, as_usage_error
from benchmark.core.malloc import keep_freed_memory
from benchmark.core.progress import is_shown, stage
from benchmark.core.seeding import use_repeatable_kernels
from benchmark.core.spec import Spec, parse_spec, require_text
from benchmark.core.thread_pool import in_order, thread_pool
from benchmark.core.time_left import Task, TimeLeft
from benchmark.data import CaptionDataset
from benchmark.data.cache import SPLITS
from benchmark.data.content import Stamps, content_of
from benchmark.data.image_location import ImageLocation
from benchmark.data.images import BadImage, size_of
from benchmark.data.photos import Photos, find_photos
from benchmark.export.captions import one_line, one_line_each, one_line_trigger, write_table
from benchmark.export.manifest import NAME as MANIFEST
from benchmark.export.manifest import hash_files
from benchmark.export.photo import Kind, Photo, has_more_pictures, name_as, photo_workers, require_fit
from benchmark.export.protected import TABLE, ProtectedPhoto, Protection
from benchmark.export.read_back import read_back
from benchmark.export.repeated_noise import Tile, add_repeated, tile_of
from benchmark.grid.cells import Cell, ChosenDataset, content_key
from benchmark.grid.choices import cells_of
from benchmark.grid.measure import crafting_costs
from benchmark.grid.poison_store import PoisonStore
from benchmark.grid.provenance import versions
from benchmark.grid.records import ResolvedSpec
from benchmark.grid.settings import RunSettings

_log = logging.getLogger(__name__)
FEWEST_MEASURED = 2000
"""The smallest number of training images for which results/ hold the strength of word-wise noise."""
_LEAST = 2  # a photo's noise is crafted against another's
_SECONDS = 20.0  # given to measuring how long crafting takes
_WRITING = "writing photos"


@dataclass(frozen=True)
class _Job:
    """The photos to write, before there is a poison.

    Attributes:
        cell: attack, surrogate and seed.
        train: all photos at the surrogate's resolution, with their files and captions.
        sources: names of the originals.
        names: names of the protected photos.
        kind: of file.
        quality: of JPEG files.
    """

    cell: Cell
    train: CaptionDataset
    sources: list[str]
    names: list[str]
    kind: Kind
    quality: int

    @property
    def origins(self) -> list[ImageLocation]:
        """The files of the originals."""
        assert self.train.origins is not None
        return self.train.origins

    @property
    def period(self) -> int:
        """Side of the square that the noise repeats."""
        return self.cell.attack.attack.period() or self.train.resolution

    def identity(self, store: PoisonStore, cache: Path) -> str:
        """What decides the content of the folder, as 20 hex digits."""
        stamp_of = Stamps()
        # The splits that were loaded, so that their content hash is found and the photos are not read again.
        files: dict[str, list[ImageLocation]] = {split: [] for split in SPLITS} | {"train": self.origins}
        stamps = {split: [stamp_of(file) for file in own] for split, own in files.items()}
        content = content_of(cache, files, stamps)
        poison = store.path(self.cell, self.train.fingerprint).name
        quality = self.quality if self.kind == "jpeg" else 0
        return content_key(poison, content, self.sources, self.kind, quality)[:20]

    def encoded(self, number: int, tile: Tile) -> bytes:
        """A protected photo as a file."""
        source = self.origins[number]
        photo = Photo.read(source, self.kind)
        add_repeated(photo.pixels, tile, self.train.resolution)
        try:
            return photo.encode(self.kind, self.quality)
        except UsageError as error:
            raise UsageError(f"photo {source} {error}") from error


def protect(
    settings: RunSettings, photos: str, out: Path, *, kind: Kind = "jpeg", quality: int = 95, command: str = ""
) -> Protection:
    """Craft noise for photos and write a protected copy of every one.

    A run that was killed goes on where it stopped if it is called again with the same arguments.

    Args:
        settings: settings of a run with one attack and one seed.
        photos: folder, table or data set; see :func:`benchmark.data.photos.find_photos`.
        out: folder for the photos; new or empty, or already made by the same call.
        kind: of the files.
        quality: of JPEG files, 1 to 100.
        command: the command line, for the manifest.

    Raises:
        UsageError: bad input, a poison that cannot be crafted, or files that cannot be written.
    """
    done = Protection.load(out)
    if done is None:
        require_unused(out)
    found, cache = find_photos(photos, out, settings.skip_bad), settings.cache or cache_folder()
    device = resolve_device(settings.device)
    use_repeatable_kernels(device)
    keep_freed_memory()
    cell = _cell(settings, found, device)
    try:
        splits = found.load(cell.surrogate.resolution, cache)
    except BadImage as error:
        raise UsageError(f"{error}; --skip-bad leaves such photos out") from error
    cell = _cell(settings, found, device, len(splits.train))
    cell.attack.attack.check(splits.train)
    job = _job(cell, found, splits.train, kind, quality)
    left_out = _left_out(job, found, splits.left_out)
    with PoisonStore.open(settings.poisons, cache, settings.checkpoint_every) as store:
        identity = job.identity(store, cache)
        if done is not None:
            if done.identity != identity:
                raise UsageError(f"folder {out} holds other photos, or these protected otherwise; name a new folder")
            if lost := [name for name, facts in done.files.items() if not _is_there(out / name, facts.bytes)]:
                raise UsageError(f"folder {out} was whole, but {lost[0]} is missing or changed; name a new folder")
            if done.left_out != left_out:
                done = replace(done, left_out=left_out)
                done.save(out)
            _log.info("%s is already whole by names and sizes; verify compares the content", out)
            return done
        if len(splits.train) < FEWEST_MEASURED:
            text = "%s photos: how strong noise is that was crafted on fewer than %s has not been measured"
            _log.warning(text, f"{len(splits.train):,}", f"{FEWEST_MEASURED:,}")
        if small := sum(min(size_of(origin)) < splits.train.resolution for origin in job.origins):
            text = "%s of %s photos smaller than the %s px that the model sees: less of the noise is left in such"
            _log.warning(text, f"{small:,}", f"{len(job.origins):,}", splits.train.resolution)
        if several := sum(map(has_more_pictures, job.origins)):
            _log.warning("%s files with several pictures, of which the first alone is protected", f"{several:,}")
        with unfinished_folder(out, identity[:8]) as folder:
            pending = [number for number, name in enumerate(job.names) if not (folder / name).is_file()]
            left = TimeLeft(_tasks(job, pending, folder, store, device), trusted=1.0)
            with as_usage_error(f"{cell.attack.choice.label} cannot be crafted", (VictimDiverged,)):
                poison = store.get(cell, splits.train, device, left)
            tiles = [tile_of(noise, job.period) for noise in _noise(poison)]
            _write_photos(job, tiles, pending, folder, left)
            manifest = _finish(job, poison, folder, identity, left_out, command)
    start = f"{out.name}{UNFINISHED}"
    if others := [str(path) for path in out.absolute().parent.iterdir() if path.name.startswith(start)]:
        _log.warning("unfinished, of other photos or other flags: %s", ", ".join(others))
    _log.info("%s", _summary(out, manifest))
    return manifest


def _cell(settings: RunSettings, found: Photos, device: torch.device, photos: int | None = None) -> Cell:
    """What crafts the noise; if the number of photos is known and smaller than the attack's batch, with that batch.

    Raises:
        UsageError: unknown names, not one attack and one seed, an attack whose noise does not repeat, or one photo.
    """
    dataset = ChosenDataset(found, ResolvedSpec(found.name, "photos"))
    *clean, cell = cells_of(settings, device, dataset)
    if cell.attack.is_clean:
        raise UsageError("clean adds no noise; take em-wordwise, mem-wordwise or em-keyed")
    if len(clean) != 1:
        raise UsageError("photos are protected by one attack, with one seed and for one victim")
    choice = cell.attack.choice
    if cell.attack.attack.period() is None:
        raise UsageError(
            f"{choice.spec} makes noise that does not repeat, so it cannot be made for full-size photos; take "
            "em-wordwise, mem-wordwise or em-keyed, or enlarge the noise with export --keep-resolution"
        )
    if photos is None:
        return cell
    if photos < _LEAST:
        count = "one photo" if photos else "no photo"
        raise UsageError(f"{found.name} holds {count}; noise is crafted on at least {_LEAST}")
    if photos >= choice.params.get("batch_size", 0):
        return cell
    spec = parse_spec(choice.spec)
    smaller = str(Spec(spec.name, {**spec.params, "batch_size": photos}))
    return _cell(replace(settings, attack=smaller), found, device)


def _job(cell: Cell, found: Photos, train: CaptionDataset, kind: Kind, quality: int) -> _Job:
    """Names for all photos.

    Raises:
        UsageError: a photo lies outside the folder, two would get the same name or one that a folder has, a name
            or a caption cannot be written down, a name has a backslash, or a photo does not fit into a file of that
            kind.
    """
    sources = [found.relative(origin) for origin in train.origins or []]
    names = [name_as(source, kind) for source in sources]
    taken: dict[str, int] = {}
    folders = {_as_one(parent.as_posix()) for name in names for parent in PurePosixPath(name).parents}
    for number, (source, name, captions) in enumerate(zip(sources, names, train.captions, strict=True)):
        require_text(source, "the name of a photo")
        with as_usage_error(f"photo {source}", (UsageError,)):
            for caption in captions:
                one_line(caption)
        if "\\" in name:
            raise UsageError(f"{source} has a backslash, which separates folders on other systems; rename it")
        if _as_one(name) in folders or PurePosixPath(name).parts[0].casefold() in (TABLE, MANIFEST):
            raise UsageError(f"{source} would become {name}, but a folder or file of that name is needed; rename it")
        if (first := taken.setdefault(_as_one(name), number)) != number:
            # Members of two archives may have one name.
            told = sources if sources[first] != source else train.origins or []
            same = names[first] == name
            what = f"both become {name}" if same else "become names that some systems take for one"
            raise UsageError(f"{told[first]} and {told[number]} would {what}; rename one of them")
    for origin in train.origins or []:
        require_fit(origin, kind)
    return _Job(cell, train, sources, names, kind, quality)


def _as_one(name: str) -> str:
    """The same for names that some file systems take for one: different in case, or in how accents are encoded."""
    return unicodedata.normalize("NFC", name).casefold()


def _left_out(job: _Job, found: Photos, reasons: Sequence[str]) -> list[str]:
    """A line for each photo that is not protected: its name, and why.

    Raises:
        UsageError: a name cannot be written down.
    """
    protected = set(job.sources)
    lines = []
    for file in found.files:
        if (name := found.name_of(file.image)) not in protected:
            require_text(name, "the name of a photo")
            own = (text for text in reasons if f"image {file.image} " in text)
            reason = file.fault or next(own, "it cannot be used")
            lines.append(f"{name}: {reason}")
    return lines


def _tasks(
    job: _Job, pending: Sequence[int], folder: Path, store: PoisonStore, device: torch.device
) -> dict[str, Task]:
    """The tasks that are left with their costs in seconds, measured on a few steps and on one photo.

    Raises:
        OSError: the disk lacks the space for the photos.
        UsageError: a photo cannot be read or written.
    """
    tasks: dict[str, Task] = {}
    path = store.path(job.cell, job.train.fingerprint)
    if is_shown() and not path.is_file():
        tasks[str(path)] = Task(str(path), crafting_costs(job.cell, job.train, device, time.monotonic() + _SECONDS))
    if pending:
        sizes = np.array([np.prod(size_of(job.origins[number])) for number in pending], dtype=np.float64)
        middle = int(np.argsort(sizes)[len(sizes) // 2])
        start = time.monotonic()
        # As noisy as the noise will be, since noise decides the size of a file.
        tile = np.random.default_rng(0).choice(np.array([-8, 8], np.int8), (3, job.period, job.period))
        written = len(job.encoded(pending[middle], tile))
        seconds = (time.monotonic() - start) / min(photo_workers(), len(pending))
        require_space(folder, int(written * sizes.sum() / sizes[middle]))
        tasks[_WRITING] = Task(_WRITING, sizes / sizes[middle] * seconds)
    return tasks


def _is_there(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def _noise(poison: Poison) -> NDArray[np.int8]:
    if poison.delta is None:
        raise UsageError("the attack has made no noise, though it says that its noise repeats")
    return poison.delta


def _write_photos(job: _Job, tiles: Sequence[Tile], pending: Sequence[int], folder: Path, left: TimeLeft) -> None:
    """Write the photos that are not there yet, each in one step, so that none is ever half-written."""

    def write(number: int) -> None:
        with replacing(folder / job.names[number]) as temporary:
            temporary.write_bytes(job.encoded(number, tiles[number]))

    with thread_pool(photo_workers()) as pool, stage(_WRITING, len(pending), left, _WRITING) as progress:
        for _ in in_order(pool, write, pending):
            progress.advance()


def _finish(
    job: _Job, poison: Poison, folder: Path, identity: str, left_out: Sequence[str], command: str
) -> Protection:
    """Write captions and manifest beside the photos."""
    captions = one_line_each(poison.protect(job.train))
    with replacing(folder / TABLE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        write_table(file, zip(job.names, captions, strict=True))
    triggers = map(one_line_trigger, poison.trigger or [""] * len(captions))
    rows = zip(job.names, job.sources, captions, triggers, strict=True)
    cell = job.cell
    manifest = Protection(
        identity=identity,
        kind=job.kind,
        quality=job.quality,
        attack={**asdict(cell.attack.choice), "provenance": poison.provenance},
        seed=cell.seed,
        eps=poison.eps,
        resolution=job.train.resolution,
        period=job.period,
        surrogate=cell.crafted_by,
        photos=[ProtectedPhoto(name, source, len(texts), trigger) for name, source, texts, trigger in rows],
        left_out=list(left_out),
        bytes={
            "originals": sum(_bytes_of(origin) for origin in job.origins),
            "protected": sum((folder / name).stat().st_size for name in job.names),
        },
        read_back=read_back(job.origins, [folder / name for name in job.names], _noise(poison), job.kind),
        versions=versions(),
        command=command,
        files=hash_files(folder, [*job.names, TABLE]),  # and not what another program has put there meanwhile
    )
    manifest.save(folder)
    return manifest


def _bytes_of(origin: ImageLocation) -> int:
    return origin.stat().st_size if isinstance(origin, Path) else origin.size


def _summary(folder: Path, manifest: Protection) -> str:
    kind = f"JPEG of quality {manifest.quality}" if manifest.kind == "jpeg" else "PNG"
    before, after = (manifest.bytes[name] / 2**20 for name in ("originals", "protected"))
    seen = manifest.read_back
    psnr = "no pixel changed" if seen["psnr"] is None else f"PSNR {seen['psnr']:.1f} dB"
    return (
        f"wrote {folder}: {len(manifest.photos):,} photos as {kind}, {after:,.1f} MiB (originals {before:,.1f} MiB), "
        f"{manifest.attack['label']}, ε = {manifest.eps}/255, {psnr}; read again at {manifest.resolution} px, "
        f"{seen['share']:.0%} of the noise is left"
    )

"""Records: one JSON file per cell, typed and versioned. Tables and figures are pure functions of them."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmark.core.atomic_files import replacing
from benchmark.core.errors import UsageError
from benchmark.metrics import Retrieval, RetrievalScores

FORMAT = 1


@dataclass(frozen=True)
class ResolvedSpec:
    """One thing chosen for a cell: as written, and with every parameter it ended up with.

    Attributes:
        spec: as written on the command line, e.g. ``mem3`` or ``cutout[size=0.3]+random-swap``.
        label: the name in tables, e.g. ``MEM-3``.
        params: every parameter, defaults and preset included.
        strength: the parameters in words, for the lines under a table.
    """

    spec: str
    label: str
    params: Mapping[str, Any] = field(default_factory=dict)
    strength: str = ""

    @property
    def title(self) -> str:
        """The label, with the spec where that says more than the same letters and digits: ``EM (em-official)``."""
        label, spec = ("".join(c for c in text.lower() if c.isalnum()) for text in (self.label, self.spec))
        return self.label if label == spec else f"{self.label} ({self.spec})"


@dataclass(frozen=True)
class EpochScores:
    """Scores after an epoch.

    Attributes:
        epoch: from 1.
        val: on clean validation data.
        test: on clean test data, which choose no epoch.
        protected: on a sample of the victim's own training data, protected as published (see
            :func:`benchmark.grid.protected_sample.protected_sample`); ``None`` in records from before there was one,
            and where only the last epoch was evaluated.
    """

    epoch: int
    val: Retrieval
    test: Retrieval
    protected: Retrieval | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "EpochScores":
        """From ``dataclasses.asdict`` as JSON keeps it."""
        protected = data.get("protected")
        return cls(
            data["epoch"],
            _retrieval(data["val"]),
            _retrieval(data["test"]),
            None if protected is None else _retrieval(protected),
        )


@dataclass(frozen=True)
class Record:
    """All that is known of a cell that has run.

    Attributes:
        key: hash of the cell's full specification; equal keys, equal cells.
        seed: the cell's seed.
        dataset: data set; ``params`` also hold the training split's ``fingerprint``, the splits' sizes and the
            resolution in pixels, and a true ``per_seed`` where each seed has a data set of its own.
        attack: attack.
        defense: defense.
        victim: victim's architecture.
        surrogate: surrogate's architecture.
        recipe: the victim's training settings.
        status: ``done`` or ``failed``.
        epochs: scores of every evaluated epoch, in order.
        loss: mean training loss per epoch, nats.
        poison: what the poison is: ``eps``, ``largest`` (both in 1/255), ``per`` (``image`` or ``row``), ``psnr`` in
            dB and ``ssim`` (of at most 1,000 images), ``trigger_words`` with counts, ``loss_per_round``, and what a
            probe reads from its parts (``trigger``, ``noise``): ``probe_PART_auc``, ``_shuffled`` and ``_words``;
            empty for clean data.
        data: what was measured of the data: ``nearest``, how far the closest test images are from the training data, in
            1/255 (see :func:`benchmark.data.nearest.nearest_distance`); empty in records from before it was measured.
        changes: what the defense changed: ``words_per_caption``, ``pixel`` (mean, in 1/255).
        seconds: by stage: ``craft`` (of the poison, whenever it was crafted), ``train``, ``evaluate``.
        peak_memory_mb: highest resident memory of the process up to the end of a stage, in MiB, by stage; as
            ``device`` that of a GPU, of crafting and training together.
        provenance: ``command``, ``commit``, ``code`` (hashes of the versions and plugins of ``dataset``,
            ``attack`` and ``defense``), ``fingerprints`` of the ``val`` and ``test`` split, ``device``, ``versions``,
            ``finished`` (UTC), ``preset``, ``models`` (``plain``: open_clip's own modules; ``fast`` or absent: the fast
            paths).
        error: of a failed cell: ``type``, ``message``, ``traceback``.
    """

    key: str
    seed: int
    dataset: ResolvedSpec
    attack: ResolvedSpec
    defense: ResolvedSpec
    victim: ResolvedSpec
    surrogate: ResolvedSpec
    recipe: Mapping[str, Any]
    status: Literal["done", "failed"] = "done"
    epochs: tuple[EpochScores, ...] = ()
    loss: tuple[float, ...] = ()
    poison: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, float] = field(default_factory=dict)
    changes: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def last(self) -> EpochScores:
        """Scores after the last epoch."""
        return self.epochs[-1]

    @property
    def best_on_clean_val(self) -> EpochScores:
        """Scores of the epoch with the highest mean recall@10 on clean val; the earliest of equals.

        A scraper who has only protected data cannot choose it.
        """
        return max(self.epochs, key=lambda scores: (scores.val.mean_recall_at_10, -scores.epoch))

    @property
    def best_on_protected(self) -> EpochScores | None:
        """Scores of the epoch with the highest mean recall@10 on the sample of the training data; the latest of equals.

        The latest, because recall on training data often reaches 100 %, and gives no reason to stop then. ``None`` if
        there was a choice of epochs and an epoch has no score on the sample.
        """
        if len(self.epochs) == 1:
            return self.last
        found = [(one.protected.mean_recall_at_10, one.epoch, one) for one in self.epochs if one.protected is not None]
        return max(found)[2] if len(found) == len(self.epochs) else None

    def file_name(self) -> str:
        """A readable name that is unique to the cell."""
        parts = (self.dataset.spec, self.attack.spec, self.defense.spec, self.victim.spec, f"seed{self.seed}")
        readable = "_".join("".join(c if c.isalnum() or c in "+-.=" else "-" for c in part)[:40] for part in parts)
        return f"{readable}_{self.key[:12]}.json"

    def save(self, folder: Path) -> Path:
        """Write the record into ``folder``, atomically; returns the file."""
        path = folder / self.file_name()
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n", "utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Read a record.

        Raises:
            UsageError: not a record of this format; the message names the file.
        """
        try:
            data = json.loads(path.read_text("utf-8"))
            if not isinstance(data, dict) or "format" not in data:
                raise UsageError(f"{path} is not a readable record: it does not say its format")
            if data["format"] != FORMAT:
                raise UsageError(f"{path}: record format {data['format']}, this version reads {FORMAT}")
            choices = ("dataset", "attack", "defense", "victim", "surrogate")
            data.update({name: ResolvedSpec(**data[name]) for name in choices})
            data["epochs"] = tuple(EpochScores.from_json(scores) for scores in data["epochs"])
            data["loss"] = tuple(data["loss"])
            record = cls(**data)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is not a readable record: {error!r}") from error
        if fault := _fault(record):
            raise UsageError(f"{path} is not a readable record: {fault}")
        return record


def load_records(folder: Path) -> list[Record]:
    """All records in a folder, sorted by file name.

    A cell may lie there under two spellings, with the same scores.

    Raises:
        UsageError: no such folder, one whose records lie in a folder below it, a file in it is not a record, or two
            records of one cell have other scores, as of other machines.
    """
    if not folder.is_dir():
        raise UsageError(f"no folder of records {folder}; 'python -m benchmark run --out {folder}' makes them")
    paths = sorted(folder.glob("*.json"))
    if not paths and (below := sorted(folder.glob("**/records"))):
        raise UsageError(f"{folder} holds no records itself; did you mean {below[0]}?")
    records = [Record.load(path) for path in paths]
    by_key: dict[str, tuple[Path, Record]] = {}
    for path, record in zip(paths, records, strict=True):
        if record.status == "done":
            other_path, other = by_key.setdefault(record.key, (path, record))
            if (record.epochs, record.loss) != (other.epochs, other.loss):
                raise UsageError(
                    f"{folder} holds two records of one cell with different scores: {other_path.name} "
                    f"({describe_origin(other)}) and {path.name} ({describe_origin(record)}); keep one"
                )
    return records


def describe_origin(record: Record) -> str:
    """Which device, commit and time a record comes from, as far as it says."""
    known = [str(record.provenance[fact]) for fact in ("device", "commit", "finished") if record.provenance.get(fact)]
    return ", ".join(known) or "unknown origin"


def _fault(record: Record) -> str:
    """Describe the first invalid field that tables compute with, or return "" if there is none."""
    if record.status not in ("done", "failed"):
        return f"status {record.status!r}"
    if isinstance(record.seed, bool) or not isinstance(record.seed, int):
        return f"seed {record.seed!r}"
    if record.status == "done" and not record.epochs:
        return "done, but without scores"
    retrievals = [split for scores in record.epochs for split in (scores.val, scores.test, scores.protected) if split]
    directions = [scores for split in retrievals for scores in (split.image_to_text, split.text_to_image)]
    # Records from before a score was added have its default, None.
    added = {score.name for score in dataclasses.fields(RetrievalScores) if score.default is None}
    named = [(name, value) for scores in directions for name, value in vars(scores).items()]
    numbers = [*record.loss, *(value for name, value in named if value is not None or name not in added)]
    measured = (record.seconds, record.peak_memory_mb, record.changes, record.data)
    numbers += [number for values in measured for number in values.values()]
    for value in numbers:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"{value!r} where a number belongs"
    images, captions = (record.dataset.params.get(f"test_{what}", 1) for what in ("images", "captions"))
    if not (isinstance(images, int) and isinstance(captions, int) and 0 < images <= captions):
        return f"{images!r} test images with {captions!r} captions"
    return ""


def _retrieval(data: Mapping[str, Any]) -> Retrieval:
    return Retrieval(RetrievalScores(**data["image_to_text"]), RetrievalScores(**data["text_to_image"]))

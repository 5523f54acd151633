"""Records: one JSON file per cell, typed and versioned. Tables and figures are pure functions of them.

A folder may keep many in one compressed file, a *pack*, with a record on each line. Records of a grid have most of
their text in common, so that a pack takes a seventh of their room.
"""

import dataclasses
import io
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from benchmark.core.atomic_files import holds_content, replacing
from benchmark.core.digests import json_sha256
from benchmark.core.errors import Failure, UsageError, as_usage_error
from benchmark.core.reading import read_gzip_text
from benchmark.core.strict_json import Amount, Number, as_kind, parse_json, read_json, require_known, require_unicode
from benchmark.grid.record_layout import from_file, to_file
from benchmark.grid.record_schema import Label, Seed, SpecText, require_facts
from benchmark.metrics import Retrieval

FORMAT: Literal[3] = 3
PACK = "records.jsonl.gz"  # the name of a folder's pack
_HASH = "sha256"
_MOST_BYTES = 1 << 24  # of a file; the largest records so far have 6,000
MOST_PACKED = 1 << 26  # bytes
_LONGEST = 40  # bytes of a part of a file's name
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResolvedSpec:
    """One thing chosen for a cell: as written, and with every parameter it ended up with.

    Attributes:
        spec: as written on the command line, e.g. ``mem3`` or ``cutout[size=0.3]+random-swap``.
        label: the name in tables, e.g. ``MEM-3``.
        params: every parameter, defaults and preset included.
        strength: the parameters in words, for the lines under a table.
    """

    spec: SpecText
    label: Label
    params: Mapping[str, Any] = field(default_factory=dict)
    strength: str = ""

    @property
    def title(self) -> str:
        """The label, with the spec where that says more than the same letters and digits: ``EM (em-official)``.

        The spec alone where parameters are written out in either: it says all that the label says.
        """
        if "=" in self.spec + self.label:
            return self.spec
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

    epoch: Annotated[int, Meta(ge=1)]
    val: Retrieval
    test: Retrieval
    protected: Retrieval | None = None


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
        changes: what the defense changed: ``words_per_caption``, ``pixel`` (mean, in 1/255), ``loss`` (mean, in nats)
            and ``pairs_left_out`` (percent); earlier records lack the last two.
        seconds: by stage: ``craft`` (of the poison, whenever it was crafted), ``train``, ``evaluate``; fewer where an
            idle CPU helped.
        peak_memory_mb: highest resident memory of the process up to the end of a stage, in MiB, by stage; as
            ``device`` that of a GPU, of crafting and training together.
        provenance: ``command``, ``commit``, ``code`` (hashes of the versions and plugins of ``dataset``,
            ``attack`` and ``defense``), ``fingerprints`` of the ``val`` and ``test`` split, ``device``, ``versions``,
            ``finished`` (UTC), ``preset``, ``models`` (``plain``: open_clip's own modules; ``fast`` or absent: the fast
            paths).
        error: of a failed cell: ``type``, ``message``, ``traceback``.
    """

    key: SpecText
    seed: Seed
    dataset: ResolvedSpec
    attack: ResolvedSpec
    defense: ResolvedSpec
    victim: ResolvedSpec
    surrogate: ResolvedSpec
    recipe: Mapping[str, Any]
    status: Literal["done", "failed"] = "done"
    epochs: tuple[EpochScores, ...] = ()
    loss: tuple[Number, ...] = ()
    poison: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Amount] = field(default_factory=dict)
    changes: Mapping[str, Amount] = field(default_factory=dict)
    seconds: Mapping[str, Amount] = field(default_factory=dict)
    peak_memory_mb: Mapping[str, Amount] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, str] = field(default_factory=dict)
    format: Literal[3] = FORMAT

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
        plain = ("".join(c if c.isalnum() or c in "+-.=" else "-" for c in part) for part in parts)
        # In bytes, because file systems count them: at most 255, of which the names of locks and checkpoints need some.
        readable = "_".join(part.encode()[:_LONGEST].decode(errors="ignore") for part in plain)
        return f"{readable}_{self.key[:12]}.json"

    @property
    def failure(self) -> str:
        """Why a failed cell failed; see :attr:`benchmark.core.errors.Failure.in_words`."""
        kind, message, where = (self.error.get(name, "") for name in ("type", "message", "traceback"))
        return Failure(kind or "no reason given", message, where).in_words

    def failed(self, kind: str, message: str, where: str) -> "Record":
        """The record of the same cell after an error of that type and message, raised where a traceback says."""
        error = {"type": kind, "message": message, "traceback": where}
        # File names in messages may hold bytes that are no text.
        escaped = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in error.items()}
        return replace(self, status="failed", error=escaped)

    def as_kept(self) -> "Record":
        """The record as it reads back from its file: what was measured has seven digits.

        Raises:
            UsageError: a value that no file of a record may hold, such as NaN.
        """
        return _from_content(self.content())

    def content(self) -> dict[str, Any]:
        """The record in JSON's kinds, as its file holds it beside a hash.

        Raises:
            UsageError: a value that no file of a record may hold, such as NaN.
        """
        content = to_file(dataclasses.asdict(self))
        with as_usage_error("cannot be saved as a record", (ValueError,)):
            _from_content(content)
            require_unicode(content)
        return content

    def save(self, folder: Path) -> Path:
        """Write the record into ``folder``, atomically, with a hash of its content; returns the file.

        Raises:
            UsageError: it cannot be written, or would not be read.
        """
        path = folder / self.file_name()
        # A line for each field: a third smaller than with all indented, and still to be read.
        with replacing(path) as temporary:
            temporary.write_text("{\n" + ",\n".join(self.json_fields()) + "\n}\n", "utf-8")
        return path

    def json_fields(self) -> list[str]:
        """Every field as JSON, a hash of them last."""
        content = self.content()
        content[_HASH] = json_sha256(content)
        return [
            f"{json.dumps(key)}:{json.dumps(value, ensure_ascii=False, separators=(',', ':'))}"
            for key, value in content.items()
        ]

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Read a record.

        Raises:
            UsageError: not a record of a known format, or not the content that was saved; the message names the file.
        """
        with as_usage_error(f"{path} is not a readable record", (OSError, ValueError)):
            return _checked(read_json(path, _MOST_BYTES))

    @classmethod
    def find(cls, path: Path) -> "Record | None":
        """Read a record if there is one; an empty file, as a crash of the machine leaves it, counts as missing.

        Raises:
            UsageError: see :meth:`load`.
        """
        if not os.path.lexists(path):
            return None
        if path.is_file() and not holds_content(path):
            _log.warning("%s is empty, as a crash of the machine leaves files, and counts as missing", path)
            return None
        return cls.load(path)


def _checked(content: Any) -> Record:
    """A record from what was read.

    Raises:
        ValueError: it is no record of a known format, or not the content that was saved.
    """
    if not isinstance(content, dict) or "format" not in content:
        raise ValueError("it has no field 'format'")
    if content["format"] != FORMAT:
        raise ValueError(f"record format {content['format']!a}; this version reads format {FORMAT}")
    if content.pop(_HASH, None) != json_sha256(content):
        raise ValueError("its content does not match its SHA-256, so it was changed or damaged")
    return _from_content(content)


def _from_content(content: dict[str, Any]) -> Record:
    """A record from what its file holds.

    Raises:
        ValueError: a field is unknown, missing, of another kind or out of range.
    """
    content = from_file(content, EpochScores)
    record: Record = as_kind(content, Record)
    require_known(content, record)
    require_facts(content)
    if record.status == "done" and not record.epochs:
        raise ValueError("done, but without scores")
    if record.status == "failed" and "message" not in record.error:
        raise ValueError("failed, but without a message")
    numbers = [scores.epoch for scores in record.epochs]
    if numbers != sorted(set(numbers)):
        raise ValueError("epochs are not in order")
    return record


def read_pack(folder: Path) -> dict[str, Record]:
    """The records of a folder's pack by the names that files of their own would have; none if it has no pack.

    Raises:
        UsageError: the pack cannot be read, or a line of it is no record, or one that is there already.
    """
    path, found = folder / PACK, dict[str, Record]()
    if not os.path.lexists(path):
        return found
    with as_usage_error(f"{path} is not a readable pack of records", (OSError, ValueError)):
        text = read_gzip_text(path, MOST_PACKED)
    for number, line in enumerate(io.StringIO(text), 1):
        with as_usage_error(f"{path}, line {number} is not a readable record", (ValueError, RecursionError)):
            if len(line) > _MOST_BYTES:
                raise ValueError(f"longer than {_MOST_BYTES >> 20} MiB")
            record = _checked(parse_json(line))
            if found.setdefault(record.file_name(), record) is not record:
                raise ValueError("it is there twice")
    return found


def load_records(folder: Path) -> list[Record]:
    """All records in a folder, in files and in its pack, sorted by file name.

    A file takes the place of the line of the same name in the pack. A copy of a record under another file name counts
    once. A cell may lie there under two spellings, with the same scores.

    Raises:
        UsageError: no such folder, one whose records lie in a folder below it, a file in it is not a record, or two
            records of one cell have other scores, as of other machines, or differ elsewhere under one spelling.
    """
    if folder.is_file():
        raise UsageError(f"{folder} is a file; records are read from the folder that it is in")
    if not folder.is_dir():
        raise UsageError(f"no folder of records {folder}; 'python -m benchmark run --out {folder}' makes them")
    paths, found = list(folder.glob("*.json")), read_pack(folder)
    if not paths and not found and (below := sorted(folder.glob("**/records"))):
        raise UsageError(f"{folder} holds no records itself; did you mean {below[0]}?")
    found |= {path.name: record for path in sorted(paths) if (record := Record.find(path)) is not None}
    by_key: dict[tuple[str, str], tuple[str, Record]] = {}
    records = []
    for name, record in sorted(found.items()):
        other_name, other = by_key.setdefault((record.key, record.status), (name, record))
        if record == other and record is not other:
            continue
        records.append(record)
        if record.status == "done" and record is not other:
            same_scores = (record.epochs, record.loss) == (other.epochs, other.loss)
            if not same_scores or record.file_name() == other.file_name():
                raise UsageError(
                    f"{folder} holds two records of one cell{'' if same_scores else ' with different scores'}: "
                    f"{other_name} ({describe_origin(other)}) and {name} ({describe_origin(record)}); keep one"
                )
    return records


def describe_origin(record: Record) -> str:
    """Which device, commit and time a record comes from, as far as it says."""
    known = [str(record.provenance[fact]) for fact in ("device", "commit", "finished") if record.provenance.get(fact)]
    return ", ".join(known) or "unknown origin"

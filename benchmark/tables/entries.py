"""Entries of the leaderboard: one JSON file per accepted submission, as ``submit`` writes it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from benchmark.core.atomic_files import replacing
from benchmark.core.errors import as_usage_error
from benchmark.core.strict_json import Amount, Number, as_kind, read_json, require_known
from benchmark.grid.record_schema import Label, Seed, SpecText
from benchmark.metrics import Percent
from benchmark.tables.iqm import Run, Runs

_MOST_BYTES = 1 << 20  # of a file; an entry of thirteen defenses and three seeds has some 4,000

# The name of the entry's file: no separators, no leading dot, the same on every file system.
Name = Annotated[
    str, Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,39}\Z", description="1 to 40 small letters, digits and -, the first no -")
]
_NO_CONTROLS = r"[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
Line = Annotated[
    str, Meta(pattern=rf"\A{_NO_CONTROLS}*\Z", max_length=300, description="one line, at most 300 characters")
]
Short = Annotated[
    str,
    Meta(pattern=rf"\A(?=.*\S){_NO_CONTROLS}*\Z", max_length=200, description="one line, 1 to 200 characters"),
]
# What ends a URL in Markdown or HTML is not in it.
Link = Annotated[
    str,
    Meta(
        pattern=r"\Ahttps://[A-Za-z0-9._~:/?#@!$&+,;=%-]+\Z",
        max_length=200,
        description="an https:// address, at most 200 characters",
    ),
]
# One spelling of each number, or two seeds would fall together.
SeedText = Annotated[str, Meta(pattern=r"\A(0|[1-9][0-9]{0,9})\Z")]
Kind = Literal["attack", "defense"]
Stage = Literal["craft", "train"]
Fact = Literal["eps", "psnr"]


@dataclass(frozen=True)
class About:
    """What a submission says of itself.

    Attributes:
        name: names the entry and its file.
        kind: what is submitted.
        spec: its name and parameters as on the command line.
        title: its name in the table.
        authors: in one line.
        link: paper or code.
        licence: of the code.
        notes: one line for the table, or nothing.
    """

    name: Name
    kind: Kind
    spec: Short
    title: Short
    authors: Short
    link: Link
    licence: Short
    notes: Line = ""


@dataclass(frozen=True)
class RerunCell:
    """The cell that was run again.

    Attributes:
        cell: attack, defense and seed in words.
        recorded: R@10 after the last epoch, mean of both directions, percent, by the record.
        found: the same by the re-run.
        low: the lowest that was accepted; equal to ``recorded`` on the same kind of machine.
        high: the highest.
        draw: the seed that chose the cell.
        drawn: where the seed comes from: ``given``, or ``scores`` and the day.
        device: where it ran.
    """

    cell: Label
    recorded: Percent
    found: Percent
    low: Percent
    high: Percent
    draw: Seed
    drawn: Label
    device: Label

    @property
    def is_equal(self) -> bool:
        """Whether the re-run had to be equal to the last digit, and was."""
        return self.low == self.high


@dataclass(frozen=True)
class Entry:
    """An accepted submission.

    Attributes:
        about: what it says of itself.
        rules: version of the rules that it kept.
        accepted: the day, UTC.
        plugin: whether its own code was run to recompute addresses: ``none`` if it has none.
        strength: of attack or defense, in words.
        recall: R@10 after the last epoch, mean of both directions, percent: of an attack by defense, of a defense by
            attack (``clean`` among them), then by seed.
        clean: of the clean undefended victims, by seed.
        test_images: their number.
        per_seed: whether each seed has test images of its own.
        poison: ``eps`` and, with noise, ``psnr`` in dB, mean over seeds; empty for a defense.
        seconds: of crafting a poison, ``craft``, or of training a victim, ``train``; mean.
        device: where the records were made.
        commit: the code that made them; empty where no commit names it.
        scores: SHA-256 of all scores.
        rerun: the cell that was run again; ``None``: none was.
        format: of the file.
    """

    about: About
    rules: Annotated[int, Meta(ge=1)]
    accepted: Annotated[str, Meta(pattern=r"\A\d{4}-\d\d-\d\d\Z")]
    plugin: Literal["none", "run", "not run"]
    strength: Label
    recall: Mapping[SpecText, Mapping[SeedText, Percent]]
    clean: Mapping[SeedText, Annotated[float, Meta(gt=0, le=100)]]
    test_images: Annotated[int, Meta(ge=1)]
    per_seed: bool
    poison: Mapping[Fact, Number] = field(default_factory=dict)
    seconds: Mapping[Stage, Amount] = field(default_factory=dict)
    device: Label = ""
    commit: Label = ""
    scores: Label = ""
    rerun: RerunCell | None = None
    format: Literal[1] = 1

    def runs(self) -> Runs:
        """Its runs beside their clean victims, as :mod:`benchmark.tables.iqm` takes them."""
        return {
            other: {
                int(seed): Run(recall, self.clean[seed], self.test_images, int(seed) if self.per_seed else 0)
                for seed, recall in by_seed.items()
            }
            for other, by_seed in self.recall.items()
        }

    def save(self, folder: Path) -> Path:
        """Write the entry into a folder, atomically; returns the file.

        Raises:
            UsageError: it cannot be written, or would not be read.
        """
        path = folder / f"{self.about.name}.json"
        content = asdict(self)
        with as_usage_error("cannot be saved as an entry", (ValueError,)):
            _from_content(content)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> "Entry":
        """Read an entry.

        Raises:
            UsageError: not an entry, or one under another's name; the message names the file.
        """
        with as_usage_error(f"{path} is not a readable entry", (OSError, ValueError)):
            entry = _from_content(read_json(path, _MOST_BYTES))
            if path.stem != entry.about.name:
                raise ValueError(f"it is the entry of {entry.about.name}")
        return entry


def _from_content(content: object) -> Entry:
    """An entry from JSON's kinds.

    Raises:
        ValueError: a field is unknown, missing, of another kind or out of range.
    """
    entry: Entry = as_kind(content, Entry)
    require_known(content, entry)
    try:
        date.fromisoformat(entry.accepted)
    except ValueError as error:
        raise ValueError(f"accepted: {entry.accepted} is no day: {error}") from error
    for other, by_seed in entry.recall.items():
        if not by_seed:
            raise ValueError(f"recall.{other}: no seed")
        if unknown := sorted(seed for seed in by_seed if seed not in entry.clean):
            raise ValueError(f"recall.{other}: seed {unknown[0][:40]!a} has no clean victim")
    needed = "none" if entry.about.kind == "attack" else "clean"
    if needed not in entry.recall or len(entry.recall) < 2:
        raise ValueError(f"recall: needs {needed} and at least one more")
    return entry


def load_entries(folder: Path) -> list[Entry]:
    """All entries in a folder, by name; none if there is no such folder.

    Raises:
        UsageError: a JSON file in it is no entry.
    """
    return [Entry.load(path) for path in sorted(folder.glob("*.json"))]

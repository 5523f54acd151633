"""The entry that an accepted submission becomes."""

from collections.abc import Sequence
from datetime import date
from statistics import fmean
from typing import Any

from benchmark.grid.records import Record
from benchmark.submission.rerun import scores_digest
from benchmark.tables.entries import About, Entry, Fact, RerunCell, Stage
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block
from benchmark.tables.shares import recall_by_seed


def entry_of(about: About, block: Block, spec: str, rerun: RerunCell | None, day: date, **rest: Any) -> Entry:
    """The entry of a submission.

    Args:
        about: what it says of itself.
        block: its records, all done.
        spec: the name in them of what was submitted.
        rerun: of a cell.
        day: of the check, UTC.
        rest: other fields of the entry.
    """
    own = block.of(**{about.kind: spec})
    other = "defense" if about.kind == "attack" else "attack"
    others = dict.fromkeys(getattr(record, other).spec for record in own)
    chosen = getattr(own[0], about.kind)
    return Entry(
        about=about,
        accepted=day.isoformat(),
        strength=chosen.strength,
        recall={name: _by_seed(block.of(**{about.kind: spec, other: name})) for name in others},
        clean=_by_seed(block.of(CLEAN, UNDEFENDED)),
        test_images=block.dataset.params["test_images"],
        per_seed=bool(block.dataset.params.get("per_seed")),
        poison=_poison(own) if about.kind == "attack" else {},
        seconds=_seconds(own, "craft" if about.kind == "attack" else "train"),
        device=str(own[0].provenance.get("device", "")),
        commit=str(own[0].provenance.get("commit") or ""),
        scores=scores_digest(block.records),
        rerun=rerun,
        **rest,
    )


def _by_seed(records: Sequence[Record]) -> dict[str, float]:
    return {str(seed): recall for seed, recall in recall_by_seed(records).items()}


def _poison(records: Sequence[Record]) -> dict[Fact, float]:
    undefended = [record.poison for record in records if record.defense.spec == UNDEFENDED]
    noises = [poison["psnr"] for poison in undefended if poison.get("psnr") is not None]
    facts: dict[Fact, float] = {"eps": max(poison.get("eps", 0) for poison in undefended)}
    return facts | ({"psnr": fmean(noises)} if noises else {})


def _seconds(records: Sequence[Record], stage: Stage) -> dict[Stage, float]:
    """Mean seconds of a stage over the records. Crafting is not summed: all victims of a poison give the same time."""
    found = [record.seconds[stage] for record in records if stage in record.seconds]
    return {stage: fmean(found)} if found else {}

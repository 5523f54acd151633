"""Verifying a stored poison."""

from pathlib import Path

from attacks.placement import keeps_tokens, where
from attacks.poison import Poison
from benchmark.core.errors import DamagedPoison, PoisonError
from benchmark.data import CaptionDataset, DatasetSource
from benchmark.export.finding import Finding
from benchmark.export.manifest import LARGEST_SIDE


def verify_poison(path: Path, source: DatasetSource | None, cache: Path) -> list[Finding]:
    """Verify a stored poison by itself and, with ``source``, against the data set that it was made for.

    Where each seed has a data set of its own, that of the poison's seed.

    Raises:
        PoisonError: the file is not a poison.
        UsageError: the data set cannot be read.
    """
    try:
        poison = Poison.load(path)
    except DamagedPoison as error:
        return [Finding(False, str(error))]
    findings = [
        Finding(True, "the content matches its SHA-256"),
        Finding(True, f"no noise exceeds ε = {poison.eps}/255"),
        verify_triggers(poison),
    ]
    return findings if source is None else [*findings, *_verify_against(poison, source, cache)]


def verify_triggers(poison: Poison) -> Finding:
    """Whether every trigger keeps its tokens when it is read alone."""
    if poison.trigger is None:
        return Finding(True, "the poison has no triggers, so no caption changes")
    broken = [trigger for trigger in dict.fromkeys(poison.trigger) if not keeps_tokens(trigger, "")]
    return Finding.from_problems(broken, "every trigger keeps its tokens", "triggers whose tokens change")


def verify_captions(poison: Poison, train: CaptionDataset, protected: CaptionDataset) -> list[Finding]:
    """Whether every trigger keeps its tokens in its captions; no finding without triggers.

    Args:
        poison: what was added.
        train: the clean training set.
        protected: the same with the poison.
    """
    if poison.trigger is None:
        return []
    base = train.by_row() if poison.per_row else train
    broken = [
        after
        for trigger, clean, published in zip(poison.trigger, base.captions, protected.captions, strict=True)
        for caption, after in zip(clean, published, strict=True)
        if not keeps_tokens(trigger, caption, poison.place)
    ]
    passed = f"every trigger keeps its tokens {where(poison.place.kind)} its captions"
    return [Finding.from_problems(broken, passed, "captions whose tokens change beside their trigger")]


def _verify_against(poison: Poison, source: DatasetSource, cache: Path) -> list[Finding]:
    if poison.delta is None:
        return [Finding(None, "not compared with the data set: a poison without noise does not record its resolution")]
    if (side := max(poison.delta.shape[2:])) > LARGEST_SIDE:
        return [Finding(False, f"noise of {side:,} px is larger than an export's may be, {LARGEST_SIDE:,} px")]
    if isinstance(seed := poison.provenance.get("seed"), int):
        source = source.for_seed(seed)
    train = source.load(poison.delta.shape[-1], cache).train
    try:
        protected = poison.protect(train)
    except PoisonError as error:
        return [Finding(False, str(error))]
    belongs = Finding(True, f"the poison belongs to {train.name} at {train.resolution} px")
    return [belongs, *verify_captions(poison, train, protected)]

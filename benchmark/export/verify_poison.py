"""Checks of a stored poison."""

from pathlib import Path

from attacks.poison import Poison, has_hash
from benchmark.core.errors import DamagedPoison, PoisonError
from benchmark.data import DatasetSource
from benchmark.export.verdict import Check, keeps_its_tokens, without


def check_poison(path: Path, source: DatasetSource | None, cache: Path) -> list[Check]:
    """Check a stored poison by itself and, with ``source``, against the data it belongs to.

    Raises:
        PoisonError: not a poison at all.
        UsageError: the data set cannot be read.
    """
    try:
        poison = Poison.load(path)
    except DamagedPoison as error:
        return [Check(False, str(error))]
    checks = [
        Check(True, "the content matches its SHA-256")
        if has_hash(path)
        else Check(None, "the file has no hash, as earlier versions wrote it: damage within the bound cannot be seen"),
        Check(True, f"no noise exceeds ε = {poison.eps}/255"),
        _triggers(poison),
    ]
    return checks if source is None else [*checks, *_against(poison, source, cache)]


def _triggers(poison: Poison) -> Check:
    if poison.trigger is None:
        return Check(True, "the poison has no triggers, so no caption changes")
    if poison.delta is not None and len(poison.trigger) != len(poison.delta):
        return Check(False, f"there are {len(poison.trigger):,} triggers for {len(poison.delta):,} images")
    broken = [trigger for trigger in dict.fromkeys(poison.trigger) if not keeps_its_tokens(trigger, "")]
    return without(broken, "every trigger comes back as the same tokens", "triggers that come back as other tokens")


def _against(poison: Poison, source: DatasetSource, cache: Path) -> list[Check]:
    if poison.delta is None:
        return [Check(None, "the data set is not compared: a poison without noise does not say its resolution")]
    train = source.load(poison.delta.shape[-1], cache).train
    try:
        protected = poison.protect(train)
    except PoisonError as error:
        return [Check(False, str(error))]
    checks = [Check(True, f"the poison belongs to {train.name} at {train.resolution} px")]
    if poison.trigger is None:
        return checks
    base = train.by_row() if poison.per_row else train
    broken = [
        after
        for trigger, own, published in zip(poison.trigger, base.captions, protected.captions, strict=True)
        for caption, after in zip(own, published, strict=True)
        if not keeps_its_tokens(trigger, caption)
    ]
    text = "every trigger comes back as the same tokens in front of its captions"
    return [*checks, without(broken, text, "captions that come back as other tokens behind their trigger")]

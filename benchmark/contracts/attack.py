"""The contract of an attack: what crafting a small poison shows."""

import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from attacks import ATTACKS, Attack, CraftContext, Poison
from attacks.base import derived, whole_of
from attacks.placement import keeps_tokens
from attacks.through import Through
from benchmark.contracts.verdict import VICTIM, Verdict, captioned, global_state_kept, note_words, require
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.errors import UsageError
from benchmark.core.progress import Progress, Silent
from benchmark.core.spec import Spec, parse_spec
from benchmark.data import CaptionDataset
from victims.architecture import Architecture

_BATCH = 8  # it does not divide the number of images
# What keeps crafting short; given to every attack whose constructor has such a parameter and whose spec does not say.
_SHORT = {
    **{"rounds": 2, "surrogate_steps": 2, "pgd_steps": 2, "hotflip_rounds": 1, "candidates": 2, "batch_size": _BATCH},
    **{"steps": 2, "channels": 8, "epochs": 2},
}


class _Counter(Silent):
    """Counts the steps that crafting reports."""

    steps = 0

    def advance(self, note: str = "") -> None:
        """Count one."""
        self.steps += 1

    def resume(self, units: int) -> None:
        """Count those of the killed crafting."""
        self.steps = units


def attack_verdict(text: str) -> Verdict:
    """Craft with an attack three times, and from a checkpoint; see :func:`benchmark.contracts.check`."""
    with tempfile.TemporaryDirectory() as folder:
        return _verdict(parse_spec(text), Path(folder) / "checkpoint")


def _verdict(spec: Spec, saved: Path) -> Verdict:
    verdict, train = Verdict(), captioned()
    images, captions = train.images[:].copy(), [list(each) for each in train.captions]
    attack, whole = _short(spec)
    attack.check(train)
    poisons: list[Poison] = []
    untouched, progress = [], _Counter()
    with verdict.promise("crafting returns a poison"):
        # One object crafts for many seeds, so what it keeps from the first must not show in the second.
        for crafting in ((attack, whole), (attack, whole), _short(spec)):
            with global_state_kept(Verdict() if poisons else verdict):
                checkpoint = Checkpoint(saved) if len(poisons) == 1 else Checkpoint()
                poisons.append(_crafted(*crafting, train, 1, Silent() if poisons else progress, checkpoint))
            untouched.append(bool((train.images[:] == images).all()) and train.captions == captions)
    verdict.note("the training set is left unchanged", all(untouched))
    if len(poisons) == 3:
        repeated = ("when the same object crafts again", "when a new object crafts")
        differences = [
            (when, _difference(poisons[0], other)) for when, other in zip(repeated, poisons[1:], strict=True)
        ]
        why = "; ".join(f"{difference}, {when}" for when, difference in differences if difference)
        verdict.note("the same seed gives the same poison", not why, why)
        _poison(verdict, train, poisons[0])
        with verdict.promise("crafting reports as many steps as progress_steps() says, or none"):
            expected = whole.progress_steps(train)
            require(type(expected) is int and expected >= 0, f"progress_steps() returns {expected!a}")
            require(progress.steps in (0, expected), f"craft reports {progress.steps}, not {expected}")
        if saved.is_file():
            with verdict.promise("a killed crafting goes on from its checkpoint to the same poison"):
                _require_resumed(poisons[0], progress.steps, _short(spec), train, Checkpoint(saved))
        with verdict.promise("pilot() is None, or a shorter attack and a number of rows"):
            _require_pilot(whole, train)
        if (period := attack.period()) is not None:
            with verdict.promise("the noise repeats with its period()"):
                _require_period(train, poisons[0], period)
    note_words(verdict, attack)
    return verdict


def _poison(verdict: Verdict, train: CaptionDataset, poison: Poison) -> None:
    """What a poison promises."""
    verdict.note("the poison has the training set's fingerprint", poison.fingerprint == train.fingerprint)
    units = len(train.pairs) if poison.per_row else len(train)
    if poison.delta is not None:
        shape = (units, *train.images.shape[1:])
        fits = poison.delta.shape == shape
        verdict.note("the noise has the images' shape", fits, f"{poison.delta.shape}, the images' is {shape}")
        if fits:
            images = (train.by_row() if poison.per_row else train).images[:].astype(int)
            total = images + poison.delta
            why = f"it reaches {total.min()} and {total.max()}"
            verdict.note("image + noise stays within 0 and 255", total.min() >= 0 and total.max() <= 255, why)
    if poison.trigger is not None:
        why = f"{len(poison.trigger)} triggers for {units}"
        verdict.note("there are as many triggers as images (or pairs)", len(poison.trigger) == units, why)
        changed = [trigger for trigger in poison.trigger if not keeps_tokens(trigger, "a dog.", poison.place)]
        why = f"{changed[0]!a} does not" if changed else ""
        verdict.note("a trigger has the same tokens alone and beside a caption", not changed, why)
    verdict.measured.append(_strength(poison))
    with verdict.promise("every image keeps its captions"):
        require(len(poison.protect(train).pairs) == len(train.pairs), "some are lost")


def _require_resumed(
    poison: Poison, steps: int, short: tuple[Attack, Attack], train: CaptionDataset, checkpoint: Checkpoint
) -> None:
    """Craft on from the last checkpoint of a whole crafting, as if that had been killed after it."""
    progress = _Counter()
    difference = _difference(poison, _crafted(*short, train, 1, progress, checkpoint))
    require(not difference, difference)
    require(progress.steps == steps, f"it reports {progress.steps} steps in place of {steps}")


def _require_pilot(attack: Attack, train: CaptionDataset) -> None:
    if (pilot := attack.pilot()) is None:
        return
    pair = isinstance(pilot, tuple) and len(pilot) == 2
    require(pair and isinstance(pilot[0], Attack) and isinstance(pilot[1], int), f"it is {pilot!a}")
    steps, kinds = attack.progress_steps(train), len(attack.step_kinds(train))
    require(kinds == steps, f"step_kinds() has {kinds} for the {steps} steps of progress_steps()")


def _strength(poison: Poison) -> str:
    """How much a poison changes, in words."""
    parts = []
    if poison.delta is not None:
        changed = float(poison.delta.reshape(len(poison.delta), -1).any(axis=1).mean())
        units = "pairs" if poison.per_row else "images"
        parts.append(f"noise up to {poison.largest}/255 in {changed:.0%} of the {units}")
    if poison.trigger is not None:
        words = sum(len(trigger.split()) for trigger in poison.trigger) / len(poison.trigger)
        parts.append(f"triggers of {words:.2g} words on average")
    return ", ".join(parts) or "neither noise nor a trigger"


def _require_period(train: CaptionDataset, poison: Poison, period: int) -> None:
    """Compare the noise of each pixel with that of the pixel one period away, where neither is cut off at 0 or 255."""
    side = train.resolution
    require(isinstance(period, int) and 1 <= period <= side, f"it is {period}, on images of {side} pixels")
    if poison.delta is None:
        return
    delta = np.asarray(poison.delta[:])
    images = (train.by_row() if poison.per_row else train).images[:]
    whole = (images >= poison.eps) & (images <= 255 - poison.eps)
    for way, here, there in (
        ("down", np.s_[:, :, :-period], np.s_[:, :, period:]),
        ("to the right", np.s_[..., :-period], np.s_[..., period:]),
    ):
        others = whole[here] & whole[there] & (delta[here] != delta[there])
        require(not others.any(), f"{others.sum():,} values differ from those {period} pixels {way}")


def _difference(first: Poison, second: Poison) -> str:
    """In which entries two poisons differ, in words; empty for equal ones."""
    different = [
        f"{name} is {getattr(first, name)} and {getattr(second, name)}"
        for name in ("eps", "per_row", "fingerprint", "place")
        if getattr(first, name) != getattr(second, name)
    ]
    for name, entries in (("delta", "values of the noise"), ("trigger", "triggers")):
        before, after = (np.asarray(getattr(poison, name)) for poison in (first, second))
        if before.shape != after.shape:
            shapes = (str(array.shape) if array.ndim else "none" for array in (before, after))
            different.append(f"the {name}'s shape is {' and '.join(shapes)}")
        elif count := int((before != after).sum()):
            different.append(f"{count:,} of {before.size:,} {entries} differ")
    return ", ".join(different)


def _short(spec: Spec) -> tuple[Attack, Attack]:
    """The attack that a spec names, with a small budget where the spec gives none and the attack takes it.

    With it comes what has to craft: the attack that it is a part of, or itself.
    """
    budget = {}
    for name, value in _SHORT.items():
        with suppress(UsageError):  # an own parameter of that name may have another range or meaning
            ATTACKS.build(spec, {name: value})
            budget[name] = value
    attack = ATTACKS.build(spec, budget)
    attack = attack.with_budget(_SHORT) if isinstance(attack, Through) else attack
    return attack, whole_of(attack, ATTACKS.resolve(spec, budget))[0] if attack.part_of else attack


def _crafted(
    attack: Attack, whole: Attack, train: CaptionDataset, seed: int, progress: Progress, checkpoint: Checkpoint
) -> Poison:
    architecture, cpu = Architecture(VICTIM), torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        context = CraftContext(
            lambda weights: architecture.build(weights, cpu, "fp32"), seed, Path(folder), progress, checkpoint
        )
        poison = whole.craft(train, context)
        if not isinstance(poison, Poison):
            raise TypeError(f"craft returned {type(poison).__name__}")
        return derived(attack, poison, train, context) if attack.part_of else poison

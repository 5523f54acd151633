"""The contract of every attack and defense, tested by one call: :func:`check`.

An attack crafts a poison for a small set whose size its batches do not divide, on the CPU in fp32, with preset tiny's
model; a defense is given captions, images, targets and a loss. Nothing here knows what an attack or defense is meant to
do.
"""

import difflib
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from inspect import getsourcefile
from pathlib import Path
from traceback import extract_tb
from typing import Any

import numpy as np
import torch

from attacks import ATTACKS, Attack, CraftContext, Poison
from attacks.placement import keeps_tokens
from attacks.through import Through
from benchmark.core.errors import UsageError
from benchmark.core.registry import unknown
from benchmark.core.seeding import seeded_globals
from benchmark.core.spec import Spec, parse_spec, split_outside_brackets
from benchmark.data import CaptionDataset
from defenses import DEFENSES, Defense, HookContext
from defenses.base import HOOKS, Composed, LossInputs, Reduction
from victims.architecture import Architecture
from victims.clip import clip_loss
from victims.defense_effect import words_changed

_ROWS, _BATCH = 21, 8
_VICTIM = "tiny"
# What keeps crafting short; given to every attack whose constructor has such a parameter and whose spec does not say.
_SHORT = {
    **{"rounds": 2, "surrogate_steps": 2, "pgd_steps": 2, "hotflip_rounds": 1, "candidates": 2, "batch_size": _BATCH},
    **{"steps": 2, "channels": 8, "epochs": 2},
}


@dataclass
class Verdict:
    """Which promises were kept, which were broken and why, and what was measured on the way, in plain words."""

    kept: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)

    def note(self, promise: str, holds: bool, why: str = "") -> None:
        """Enter a promise as kept, or as broken with the reason."""
        if holds:
            self.kept.append(promise)
        else:
            self.broken.append(f"{promise}: {why}" if why else promise)

    @contextmanager
    def promise(self, text: str) -> Iterator[None]:
        """A promise that is kept if the block ends without an error; otherwise the error is the reason."""
        try:
            yield
        except Exception as error:
            self.note(text, False, f"{type(error).__name__}: {' '.join(str(error).split())}{_where(error)}")
        else:
            self.note(text, True)

    def lines(self) -> list[str]:
        """The verdict as it is printed: ✓ kept, · measured, ✗ broken."""
        marked = (("✓", self.kept), ("·", self.measured), ("✗", self.broken))
        return [f"{mark} {line}" for mark, lines in marked for line in lines]


def _where(error: BaseException) -> str:
    """Which method failed, in which line: the first call outside of what calls hooks; empty if there is none."""
    callers = {__file__, getsourcefile(Composed)}
    calls = (call for call in extract_tb(error.__traceback__) if call.filename not in callers)
    return next((f" (in {call.name}, {Path(call.filename).name}:{call.lineno})" for call in calls), "")


def check(kind: str, text: str) -> Verdict:
    """Test an attack or a defense against its contract.

    Args:
        kind: ``attack`` or ``defense``.
        text: as on the command line, e.g. ``cutout[size=0.3]``; defenses may be composed with ``+``.

    Raises:
        UsageError: unknown kind, name or parameter, a class that lacks a method, or an attack that needs more data
            than the contract has.
    """
    contracts: dict[str, Callable[[str], Verdict]] = {"attack": _attack, "defense": _defense}
    if kind not in contracts:
        raise UsageError(unknown("kind", kind, list(contracts)))
    return contracts[kind](text)


def _attack(text: str) -> Verdict:
    spec, verdict, train = parse_spec(text), Verdict(), _captioned(_ROWS)
    images, captions = train.images[:].copy(), [list(each) for each in train.captions]
    attack = _short(spec)
    attack.check(train)
    poisons: list[Poison] = []
    untouched = []
    with verdict.promise("crafting returns a poison"):
        # One object crafts for many seeds, so what it keeps from the first must not show in the second.
        for crafting in (attack, attack, _short(spec)):
            with _random_state_kept(verdict) if not poisons else nullcontext():
                poisons.append(_crafted(crafting, train, seed=1))
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
    with verdict.promise("the label is one printable line"):
        label = attack.label()
        _require(bool(label.strip()) and label.isprintable(), ascii(label))
    _description(verdict, attack)
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
        verdict.note("every image (or pair) has a trigger", len(poison.trigger) == units, why)
        changed = [trigger for trigger in poison.trigger if not keeps_tokens(trigger, "a dog.", poison.place)]
        why = f"{changed[0]!a} does not" if changed else ""
        verdict.note("a trigger has the same tokens alone and beside a caption", not changed, why)
    with verdict.promise("every image keeps its captions"):
        _require(len(poison.protect(train).pairs) == len(train.pairs), "some are lost")


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


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _description(verdict: Verdict, subject: Attack | Defense) -> None:
    with verdict.promise("the description is at most one printable line"):
        _require(subject.describe().isprintable(), ascii(subject.describe()))


def _short(spec: Spec) -> Attack:
    """The attack that a spec names, with a small budget where the spec gives none."""
    attack = ATTACKS.build(spec, _SHORT)
    return attack.with_budget(_SHORT) if isinstance(attack, Through) else attack


def _crafted(attack: Attack, train: CaptionDataset, seed: int) -> Poison:
    architecture, cpu = Architecture(_VICTIM), torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        context = CraftContext(lambda weights: architecture.build(weights, cpu, "fp32"), seed, Path(folder))
        poison = attack.craft(train, context)
    if not isinstance(poison, Poison):
        raise TypeError(f"craft returned {type(poison).__name__}")
    return poison


def _defense(text: str) -> Verdict:
    verdict, given = Verdict(), defense_inputs()
    parts = _parts(text)
    defense = _joined(parts)
    for part in parts:
        _hooks(verdict, part)
    results: list[dict[str, Any]] = []
    with verdict.promise("every hook returns"), _random_state_kept(verdict):
        results.append(defense_answers(defense, given, seed=7))
    verdict.note("the arguments are left unchanged", _equal(given, defense_inputs()))
    for answers in results:
        with verdict.promise("all randomness comes from the context's seed"):
            # One object defends many victims, so what it keeps from one must not show in the next.
            repeated = {"by the same object": defense, "by a new object": _joined(_parts(text))}
            for who, again in repeated.items():
                with seeded_globals(1):
                    same = _equal(answers, defense_answers(again, given, seed=7))
                _require(same, f"a second call with the same seed, {who}, returns something else")
        _answers(verdict, text, given, answers)
    _description(verdict, defense)
    return verdict


def _hooks(verdict: Verdict, defense: Defense) -> None:
    """Whether a defense overrides a hook; if not, which of its methods is probably a misspelled one."""
    kind = type(defense)
    if defense.changes_nothing:
        return
    overridden = any(getattr(kind, hook) is not getattr(Defense, hook) for hook in HOOKS)
    methods = [name for name in dir(kind) if callable(getattr(kind, name)) and not hasattr(Defense, name)]
    guesses = {name: difflib.get_close_matches(name, HOOKS, n=1) for name in methods}
    why = f"{kind.__name__} has none of {', '.join(HOOKS)}"
    why += "".join(f"; did you mean {hooks[0]} by {name}?" for name, hooks in guesses.items() if hooks)
    verdict.note("at least one hook is overridden", overridden, why)


def _answers(verdict: Verdict, text: str, given: dict[str, Any], results: dict[str, Any]) -> None:
    """What the hooks' results promise, and how much they change."""
    pairs = {tuple(pair) for pair in given["rows"]}
    kept = results["rows"]
    verdict.note("only pairs that went in come back, and some do", bool(kept) and {*map(tuple, kept)} <= pairs)
    verdict.note("the loss is finite", bool(np.isfinite(results["loss"])), str(results["loss"]))
    captions = results["captions"]
    strings = isinstance(captions, list) and all(isinstance(each, str) and each.split() for each in captions)
    full = strings and len(captions) == len(given["captions"])
    verdict.note("as many captions come back as went in, none of them empty", full)
    arrays = [(results[name], value) for name, value in given.items() if isinstance(value, torch.Tensor)]
    tensors = all(isinstance(new, torch.Tensor) for new, _ in arrays)
    shapes = tensors and all((new.shape, new.dtype) == (old.shape, old.dtype) for new, old in arrays)
    verdict.note("images and targets keep their shape and dtype", shapes)
    if tensors:
        verdict.note("images stay within 0 and 1", all(bool(((new >= 0) & (new <= 1)).all()) for new, _ in arrays))
        verdict.note("the results carry no gradient", not any(new.requires_grad for new, _ in arrays))
    if shapes:
        rows = results["mixed targets"].sum(dim=1)
        verdict.note("the targets of every image sum to one", torch.allclose(rows, torch.ones_like(rows)))
    if full and shapes:
        verdict.measured.append(_effect(given, results))
        if all(part.changes_nothing for part in _parts(text)):
            verdict.note("it changes nothing, as it says", _equal(given, results))
    with verdict.promise("a 63-bit seed is accepted"):
        defense_answers(_joined(_parts(text)), given, seed=2**63 - 1)


def _effect(given: dict[str, Any], results: dict[str, Any]) -> str:
    """How much the hooks change :func:`defense_inputs`, in words."""
    pairs = zip(given["captions"], results["captions"], strict=True)
    words = sum(words_changed(before, after) for before, after in pairs) / len(given["captions"])
    effects = {"on_captions changes {:.2g} words per caption": words}
    for hook, name in (("on_images", "images"), ("on_batch", "mixed images"), ("adversarial", "adversarial")):
        pixel = float((results[name].detach() - given[name]).abs().mean()) * 255
        effects[f"{hook} changes pixels by {{:.2g}}/255 on average"] = pixel
    if given["data"] != results["data"]:
        effects["on_dataset changes the data"] = 1.0
    effects["on_rows leaves out {:.0%} of the pairs"] = 1 - len(results["rows"]) / len(given["rows"])
    effects["the loss differs by {:.2g} nats"] = abs(results["loss"] - given["loss"])
    moved = float((results["mixed targets"] - given["mixed targets"]).abs().sum(dim=1).mean()) / 2
    effects["on_batch moves {:.0%} of an image's target to other captions"] = moved
    return ", ".join(effect.format(size) for effect, size in effects.items() if size) or "no hook changes anything"


def _parts(text: str) -> list[Defense]:
    return [DEFENSES.build(parse_spec(part)) for part in split_outside_brackets(text, "+")]


def _joined(parts: Sequence[Defense]) -> Defense:
    return parts[0] if len(parts) == 1 else Composed(parts)


def defense_inputs() -> dict[str, Any]:
    """What the contract gives to the hooks, by what they may change: data, rows, captions, images (8, 3, 16, 16),
    targets and the loss.
    """
    generator = torch.Generator().manual_seed(0)
    train, batch = _captioned(_ROWS).by_row(), _loss_inputs()
    caption = "cheap violin seven A small dog sits near the red house"
    return {
        "data": train.fingerprint,
        "rows": train.pairs.tolist(),
        "captions": [caption, "car", "the boat left of a tree", *[caption.upper()] * 20],
        "images": torch.rand(8, 3, 16, 16, generator=generator),
        "mixed images": torch.rand(8, 3, 16, 16, generator=generator),
        "mixed targets": torch.eye(8),
        "adversarial": torch.rand(8, 3, 16, 16, generator=generator),
        "loss": float(Defense().loss(batch, HookContext(0, 0.5))),
    }


def defense_answers(defense: Defense, given: dict[str, Any], seed: int) -> dict[str, Any]:
    """What the hooks return for :func:`defense_inputs` and a seed."""
    slope = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1))

    def loss(images: torch.Tensor, reduction: Reduction = "mean") -> torch.Tensor:
        each = (slope * images).mean((1, 2, 3))
        return each.mean() if reduction == "mean" else each

    at = HookContext(seed, 0.5, epoch=2, training=seed)
    train = _captioned(_ROWS).by_row()
    # As an owner with uniform noise would publish it.
    published = replace(train, images=np.asarray(train.images[:] ^ 1, dtype=np.uint8))
    clean, before = train if defense.needs_clean else published, published.fingerprint
    data = defense.on_dataset(published, clean, replace(at, progress=0.0, epoch=1))
    # A fingerprint is worked out once; that of a copy tells what has become of the images and captions.
    _require(replace(published).fingerprint == before, "on_dataset changes its argument")
    unchanged = data.fingerprint == before
    ranks = np.linspace(-1, 1, len(train.pairs), dtype=np.float32)
    rows = train.pairs.copy()
    kept = defense.on_rows(rows, lambda some: ranks[: len(some)], at).tolist()
    _require(bool((rows == train.pairs).all()), "on_rows changes its argument")
    images, targets = defense.on_batch(given["mixed images"], given["mixed targets"], at)
    return {
        "data": train.fingerprint if unchanged else data.fingerprint,
        "rows": kept,
        "captions": defense.on_captions(given["captions"], at),
        "images": defense.on_images(given["images"], at),
        "mixed images": images,
        "mixed targets": targets,
        "adversarial": defense.adversarial(given["adversarial"], loss, at),
        "loss": float(defense.loss(_loss_inputs(), at)),
    }


def _loss_inputs() -> LossInputs:
    """A batch of eight with random features, by towers that are one matrix each."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(8, 3, 16, 16, generator=generator)
    tokens = torch.randint(1, 99, (8, 6), generator=generator)
    tokens[:, 0], tokens[:, -1] = 49406, 49407
    pixels, words = torch.randn(768, 4, generator=generator), torch.randn(49408, 4, generator=generator)

    def encode_images(some: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(some.flatten(1) @ pixels, dim=-1)

    def encode_tokens(some: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(words[some].mean(1), dim=-1)

    def contrast(first: torch.Tensor, second: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        return clip_loss(first, second, torch.tensor(10.0), targets)

    features = encode_images(images), encode_tokens(tokens)
    return LossInputs(images, tokens, *features, torch.eye(8), tokens, encode_images, encode_tokens, contrast)


def _equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    def same(a: Any, b: Any) -> bool:
        both = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
        return torch.equal(a, b) if both else type(a) is type(b) and bool(a == b)

    return all(same(value, second[name]) for name, value in first.items())


def _captioned(rows: int) -> CaptionDataset:
    rng = np.random.default_rng(0)
    words = "red green dog cat tree house car boat sun moon left above".split()
    images = rng.integers(0, 256, size=(rows, 3, *[Architecture(_VICTIM).resolution] * 2), dtype=np.uint8)
    captions = [[" ".join(rng.choice(words, rng.integers(3, 8))) for _ in range(2)] for _ in range(rows)]
    return CaptionDataset("contract", "train", images, captions)


@contextmanager
def _random_state_kept(verdict: Verdict) -> Iterator[None]:
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    same = random.getstate() == python and torch.equal(torch.get_rng_state(), pytorch)
    same = same and all(np.array_equal(old, new) for old, new in zip(numpy, np.random.get_state(), strict=True))
    verdict.note("the global random state is left unchanged", same)

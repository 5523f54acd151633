"""What every attack and every defense promises, put to the test with one call: :func:`check`.

An attack is crafted on a small set whose size its batches do not divide, on the CPU in fp32, with preset tiny's model;
a defense is given captions, images, targets and a loss. Nothing here knows what an attack or defense is meant to do.
"""

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attacks import ATTACKS, Attack, Poison
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.errors import UsageError
from benchmark.core.progress import Silent
from benchmark.core.registry import unknown
from benchmark.core.spec import parse_spec, split_outside_brackets
from benchmark.data import CaptionDataset
from defenses import DEFENSES, Defense, HookContext
from defenses.base import Composed
from victims.clip import Architecture

_ROWS, _BATCH = 21, 8
_VICTIM = "tiny"
# What keeps crafting short; given to every attack whose constructor has such a parameter and whose spec does not say.
_SHORT = {"rounds": 2, "surrogate_steps": 2, "pgd_steps": 2, "hotflip_rounds": 1, "candidates": 2, "batch_size": _BATCH}


@dataclass
class Verdict:
    """Which promises were kept and which were not, in plain words."""

    kept: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def note(self, promise: str, holds: bool) -> None:
        """Enter a promise under the one or the other."""
        (self.kept if holds else self.broken).append(promise)

    @contextmanager
    def promise(self, text: str) -> Iterator[None]:
        """A promise that is kept if the block ends without an error; else the error is told beside it, and goes no
        further."""
        try:
            yield
        except Exception as error:
            self.broken.append(f"{text}: {type(error).__name__}: {' '.join(str(error).split())}")
        else:
            self.kept.append(text)


def check(kind: str, text: str) -> Verdict:
    """Put an attack or a defense through its contract.

    Args:
        kind: ``attack`` or ``defense``.
        text: as on the command line, e.g. ``grey[amount=0.5]``; of defenses, compositions with ``+`` as well.

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
    before, captions = train.images[:].copy(), [list(own) for own in train.captions]
    attack = ATTACKS.build(spec, _SHORT)
    attack.check(train)
    poisons: list[Poison] = []
    untouched = []
    with verdict.promise("crafting ends with a poison"):
        # One object crafts for many seeds, so what it keeps from the first must not show in the second.
        for crafting in (attack, attack, ATTACKS.build(spec, _SHORT)):
            with _random_state_kept(verdict) if not poisons else nullcontext():
                poisons.append(_crafted(crafting, train, seed=1))
            untouched.append(bool((train.images[:] == before).all()) and train.captions == captions)
    verdict.note("the training set stays as it is", all(untouched))
    if len(poisons) == 3:
        same = all(_noise(poisons[0]).tobytes() == _noise(one).tobytes() for one in poisons)
        same = same and all(poisons[0].trigger == one.trigger for one in poisons)
        verdict.note("the same seed gives the same poison", same)
        _poison(verdict, train, poisons[0])
    with verdict.promise("label and description take one line each"):
        _require(len(attack.label().splitlines()) == 1, "the label")
        _require(len(attack.describe().splitlines()) <= 1, "the description")
    return verdict


def _poison(verdict: Verdict, train: CaptionDataset, poison: Poison) -> None:
    """What a poison promises."""
    verdict.note("the poison names the data it belongs to", poison.fingerprint == train.fingerprint)
    units = len(train.pairs) if poison.per_row else len(train)
    if poison.delta is not None:
        shape = (units, *train.images.shape[1:])
        fits = (poison.delta.dtype, poison.delta.shape) == (np.int8, shape)
        verdict.note("noise is int8 of the images' shape", fits)
        noise = _noise(poison).astype(int)
        verdict.note("noise stays within ε", int(np.abs(noise).max()) <= poison.eps)
        if fits:
            total = (train.by_row() if poison.per_row else train).images[:].astype(int) + noise
            verdict.note("image + noise stays within 0 and 255", total.min() >= 0 and total.max() <= 255)
    if poison.trigger is not None:
        verdict.note("there is a trigger for every image or pair", len(poison.trigger) == units)
        encode = Architecture(_VICTIM).build(0, torch.device("cpu"), "fp32").tokenizer.encode
        joined = [(trigger, f"{trigger} a dog.") for trigger in poison.trigger]
        reads = all(encode(whole) == encode(trigger) + encode("a dog.") for trigger, whole in joined)
        verdict.note("triggers read the same in front of a caption", reads)
    with verdict.promise("every image keeps its captions"):
        _require(len(poison.protect(train).pairs) == len(train.pairs), "some are lost")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _crafted(attack: Attack, train: CaptionDataset, seed: int) -> Poison:
    architecture, cpu = Architecture(_VICTIM), torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        poison = attack.craft(
            train,
            lambda own: architecture.build(own, cpu, "fp32"),
            seed=seed,
            device=cpu,
            workdir=Path(folder),
            progress=Silent(),
            checkpoint=Checkpoint(),
        )
    if not isinstance(poison, Poison):
        raise TypeError(f"craft returned {type(poison).__name__}")
    return poison


def _noise(poison: Poison) -> np.ndarray:
    return np.zeros(0, np.int8) if poison.delta is None else np.asarray(poison.delta)


def _defense(text: str) -> Verdict:
    verdict, given = Verdict(), defense_inputs()
    defense = _built(text)
    found: list[dict[str, Any]] = []
    with verdict.promise("every hook answers"), _random_state_kept(verdict):
        found.append(defense_answers(defense, given, seed=7))
    verdict.note("arguments stay as they are", _equal(given, defense_inputs()))
    for answers in found:
        with verdict.promise("the moment's seed decides everything"):
            random.seed(1), np.random.seed(1), torch.manual_seed(1)
            # One object defends many victims, so what it keeps from one must not show in the next.
            for again in (defense, _built(text)):
                _require(_equal(answers, defense_answers(again, given, seed=7)), "a second call answers otherwise")
        _answers(verdict, text, given, answers)
    with verdict.promise("its description takes one line"):
        _require(len(defense.describe().splitlines()) <= 1, "it takes more")
    return verdict


def _answers(verdict: Verdict, text: str, given: dict[str, Any], found: dict[str, Any]) -> None:
    """What the hooks' answers promise."""
    texts = found["captions"]
    strings = isinstance(texts, list) and all(isinstance(text, str) and text.split() for text in texts)
    full = strings and len(texts) == len(given["captions"])
    verdict.note("as many captions come back as went in, none of them empty", full)
    arrays = [(found[name], value) for name, value in given.items() if isinstance(value, torch.Tensor)]
    tensors = all(isinstance(new, torch.Tensor) for new, _ in arrays)
    shapes = tensors and all((new.shape, new.dtype) == (old.shape, old.dtype) for new, old in arrays)
    verdict.note("images and targets keep shape and dtype", shapes)
    if tensors:
        verdict.note("images stay within 0 and 1", all(bool(((new >= 0) & (new <= 1)).all()) for new, _ in arrays))
        verdict.note("nothing keeps a gradient", not any(new.requires_grad for new, _ in arrays))
    if shapes:
        rows = found["mixed targets"].sum(dim=1)
        verdict.note("the targets of every image add up to one", torch.allclose(rows, torch.ones_like(rows)))
    with verdict.promise("a 63-bit seed is accepted"):
        defense_answers(_built(text), given, seed=2**63 - 1)


def _built(text: str) -> Defense:
    parts = [DEFENSES.build(parse_spec(part)) for part in split_outside_brackets(text, "+")]
    return parts[0] if len(parts) == 1 else Composed(parts)


def defense_inputs() -> dict[str, Any]:
    """What every hook of a defense is given, by what it may change: captions, images (8, 3, 16, 16) and targets."""
    generator = torch.Generator().manual_seed(0)
    caption = "cheap violin seven A small dog sits near the red house"
    return {
        "captions": [caption, "car", "the boat left of a tree", *[caption.upper()] * 20],
        "images": torch.rand(8, 3, 16, 16, generator=generator),
        "mixed images": torch.rand(8, 3, 16, 16, generator=generator),
        "mixed targets": torch.eye(8),
        "adversarial": torch.rand(8, 3, 16, 16, generator=generator),
    }


def defense_answers(defense: Defense, given: dict[str, Any], seed: int) -> dict[str, Any]:
    """What the hooks make of :func:`defense_inputs` under a seed."""
    slope = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1))
    at = HookContext(seed, 0.5)
    images, targets = defense.on_batch(given["mixed images"], given["mixed targets"], at)
    return {
        "captions": defense.on_captions(given["captions"], at),
        "images": defense.on_images(given["images"], at),
        "mixed images": images,
        "mixed targets": targets,
        "adversarial": defense.adversarial(given["adversarial"], lambda x: (slope * x).mean(), at),
    }


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    def same(a: Any, b: Any) -> bool:
        both = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
        return torch.equal(a, b) if both else type(a) is type(b) and bool(a == b)

    return all(same(value, other[name]) for name, value in one.items())


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
    verdict.note("the global random state stays as it is", same)

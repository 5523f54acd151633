"""Promises kept and broken, and the small data set that attacks and defenses are tried on."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import getsourcefile
from pathlib import Path
from traceback import extract_tb

import numpy as np
import torch

from attacks import Attack
from benchmark.data import CaptionDataset
from defenses import Defense
from defenses.base import Composed
from victims.architecture import Architecture

VICTIM = "tiny"


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
        except (Exception, SystemExit) as error:
            kind = "" if isinstance(error, BrokenPromise) else f"{type(error).__name__}: "
            said = f"{kind}{' '.join(str(error).split())}{_where(error)}"
            self.note(text, False, ", ".join([said, *getattr(error, "__notes__", ())]))
        else:
            self.note(text, True)

    def lines(self) -> list[str]:
        """The verdict as it is printed: ✓ kept, · measured, ✗ broken."""
        marked = (("✓", self.kept), ("·", self.measured), ("✗", self.broken))
        return [f"{mark} {line}" for mark, lines in marked for line in lines]


def _where(error: BaseException) -> str:
    """Which method failed, in which line: the first call outside of what calls hooks; empty if there is none."""
    callers = {*map(str, Path(__file__).parent.glob("*.py")), getsourcefile(Composed)}
    calls = (call for call in extract_tb(error.__traceback__) if call.filename not in callers)
    return next((f" (in {call.name}, {Path(call.filename).name}:{call.lineno})" for call in calls), "")


class BrokenPromise(Exception):
    """A plug-in does something else than it promises, without an error of its own."""


def require(holds: bool, otherwise: str) -> None:
    """Raise a BrokenPromise unless something holds."""
    if not holds:
        raise BrokenPromise(otherwise)


def note_words(verdict: Verdict, *subjects: Attack | Defense) -> None:
    """Enter whether labels and descriptions can stand in a table and under it."""
    with verdict.promise("the label is one printable line"):
        for subject in subjects:
            label = subject.label()
            require(bool(label.strip()) and label.isprintable(), ascii(label))
    with verdict.promise("the description is at most one printable line"):
        for subject in subjects:
            require(subject.describe().isprintable(), ascii(subject.describe()))


def captioned() -> CaptionDataset:
    """21 images of white noise, two captions each."""
    rng, rows = np.random.default_rng(0), 21
    words = "red green dog cat tree house car boat sun moon left above".split()
    images = rng.integers(0, 256, size=(rows, 3, *[Architecture(VICTIM).resolution] * 2), dtype=np.uint8)
    captions = [[" ".join(rng.choice(words, rng.integers(3, 8))) for _ in range(2)] for _ in range(rows)]
    return CaptionDataset("contract", "train", images, captions)


@contextmanager
def global_state_kept(verdict: Verdict) -> Iterator[None]:
    """Enter whether the block leaves the global state as it is; nothing if it ends with an error.

    That is the random state, whether gradients are computed, and the default dtype. The last two are restored.
    """
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        yield
        kept = torch.is_grad_enabled() == gradients and torch.get_default_dtype() == dtype
        verdict.note("gradients and the default dtype are left as they are", kept)
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)
    same = random.getstate() == python and torch.equal(torch.get_rng_state(), pytorch)
    same = same and all(np.array_equal(old, new) for old, new in zip(numpy, np.random.get_state(), strict=True))
    verdict.note("the global random state is left unchanged", same)

"""The attack contract: craft a poison for a training set with a surrogate model."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from attacks.poison import Poison
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.distributed import Processes
from benchmark.core.errors import UsageError, as_usage_error
from benchmark.core.parameters import check_ranges, describe_fields, require
from benchmark.core.progress import Progress, Silent
from benchmark.core.registrable import parameters_of
from benchmark.core.registry import Registry, label_of
from benchmark.core.seeding import numpy_generator
from benchmark.data import CaptionDataset
from victims.clip import Clip

Surrogate = Callable[[int], Clip]
"""Builds the surrogate with weights drawn from a seed, on the device that crafts."""

_CHUNK = 64  # images


@dataclass(frozen=True)
class CraftContext:
    """What an attack crafts with.

    Attributes:
        surrogate: builds the surrogate model from a seed, on the device to compute on (``model.device``).
        seed: all random choices derive from it.
        workdir: folder for large intermediate files.
        progress: shows how far crafting has come; call ``advance()`` as often as :meth:`Attack.progress_steps` says.
        checkpoint: where long crafting may keep its state, to continue after a kill; by default nowhere.
        processes: the processes that craft together; by default those that ``torchrun`` has started.
    """

    surrogate: Surrogate
    seed: int
    workdir: Path
    progress: Progress = field(default_factory=Silent)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    processes: Processes = field(default_factory=Processes.current)

    def numpy_generator(self, *stage: str | int) -> np.random.Generator:
        """A numpy generator for one stage of crafting, e.g. ``numpy_generator("noise")``."""
        return numpy_generator(self.seed, *stage)

    def chunks(self, train: CaptionDataset) -> Iterator[slice]:
        """Slices of at most 64 images that together are all of them; each counts as one step of progress."""
        for start in range(0, len(train), _CHUNK):
            yield slice(start, min(start + _CHUNK, len(train)))
            self.progress.advance()


class Attack(ABC):
    """What an owner does to a training set before publishing it.

    A subclass is a dataclass (``@dataclass(frozen=True)``) whose fields are the attack's parameters; ranges given with
    :func:`benchmark.core.parameters.ranged` are checked. Only :meth:`craft` has to be written.

    Attributes:
        version: of the attack's code. It is part of the poison's address in the cache, so raise it with every change of
            what is crafted. A plugin may leave it as it is: its file is part of the address.
        part_of: name of another attack with the same parameters; :meth:`derive_from` makes this attack's poison from
            the other's, which is crafted and stored once for both. ``None``: the attack crafts its own poison.
        crafted_through: names of the parameters that hold a defense, such as ``jpeg+crop-flip``, which changes the
            images that surrogates see. The preset's strengths then hold for that defense too, and the defense's code is
            part of the poison's address.
        builds_surrogate: whether :meth:`craft` builds a surrogate, so that it can be crafted through a defense.
        learns_in_training: whether noise is learned while a surrogate trains, and not adapted to a frozen copy.
    """

    version: ClassVar[int] = 1
    part_of: ClassVar[str | None] = None
    crafted_through: ClassVar[tuple[str, ...]] = ()
    builds_surrogate: ClassVar[bool] = True
    learns_in_training: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if isinstance(cls.crafted_through, str):
            raise TypeError(f"{cls.__name__}.crafted_through is a tuple of names, such as ('{cls.crafted_through}',)")

    def __post_init__(self) -> None:
        owner, k = f"attack {ATTACKS.name_of(type(self))}", getattr(self, "k", None)
        check_ranges(owner, self)
        # Tables order attacks by it.
        require(k is None or (type(k) is int and k >= 0), owner, "k", "a whole number from 0 on, or none", k)

    def label(self) -> str:
        """The name in tables, one printable line; by default the registered name: ``my-noise`` is ``My noise``."""
        return label_of(ATTACKS.name_of(type(self)))

    def describe(self) -> str:
        """The strength in words, for the lines under a table; by default the parameters with their values."""
        return describe_fields(self)

    def identity(self) -> str:
        """What decides the poison besides parameters, data, surrogate and seed, e.g. the content of a file."""
        return ""

    def progress_steps(self, train: CaptionDataset) -> int:
        """How often :meth:`craft` advances the progress; by default once for each of :meth:`CraftContext.chunks`."""
        return math.ceil(len(train) / _CHUNK)

    def step_kinds(self, train: CaptionDataset) -> Sequence[str]:
        """The kind of each of these steps, in order; steps of one kind take the same time."""
        return ["step"] * self.progress_steps(train)

    def pilot(self) -> "tuple[Attack, int] | None":
        """A short version of the attack to time before a run, and the number of rows to craft on.

        The short version has steps of every kind. ``None``: the time of crafting is unknown before the run.
        """
        return None

    def period(self) -> int | None:
        """The side in pixels of the square that the noise repeats over an image; ``None`` if it repeats nowhere.

        Noise that repeats can be made for photos of any size; see :mod:`benchmark.export.repeated_noise`.
        """
        return None

    def check(self, train: CaptionDataset) -> None:
        """Called before any work of a run begins; by default all data are accepted.

        Raises:
            UsageError: the data do not suit the attack.
        """
        return

    def derive_from(self, whole: Poison, train: CaptionDataset, context: CraftContext) -> Poison:
        """This attack's poison, from that of the attack that it is ``part_of``.

        Args:
            whole: the other attack's poison.
            train: the clean training split.
            context: as for :meth:`craft`; a part is cheap to make, so it shows no progress.
        """
        return whole

    @abstractmethod
    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Craft the poison of a training set; the set is left as it is.

        Args:
            train: the clean training split, which :meth:`check` has accepted.
            context: surrogate, seed, folder, progress and checkpoint.

        Raises:
            VictimDiverged: the surrogate's loss is not finite.
        """


def whole_of(attack: Attack, params: Mapping[str, Any]) -> "tuple[Attack, dict[str, Any]]":
    """The attack that an attack is ``part_of``, and those of the parameters that it has.

    Args:
        attack: one that names another.
        params: its parameters as in records.

    Raises:
        UsageError: there is no such attack, the attack lacks a parameter of the whole, or the whole is itself a part.
    """
    assert attack.part_of is not None
    part, name = f"attack {ATTACKS.name_of(type(attack))}", attack.part_of
    with as_usage_error(f"{part}: part_of", (UsageError,)):
        known = parameters_of(ATTACKS.entry(name).factory)
    if missing := sorted(known.keys() - parameters_of(type(attack)).keys()):
        raise UsageError(f"{part} is a part of {name} and lacks its {', '.join(missing)}")
    own = {key: params[key] for key in known if key in params}
    whole = ATTACKS.restore(name, own)
    if whole.part_of is not None:
        raise UsageError(f"{part} is a part of {name}, which is a part itself")
    return whole, own


def derived(attack: Attack, whole: Poison, train: CaptionDataset, context: CraftContext) -> Poison:
    """What :meth:`Attack.derive_from` returns.

    Raises:
        UsageError: no poison.
    """
    poison = attack.derive_from(whole, train, context)
    if not isinstance(poison, Poison):
        kind = type(poison).__name__
        raise UsageError(f"attack {ATTACKS.name_of(type(attack))}: derive_from returned {kind}, not a Poison")
    return poison


def require_batch(train: CaptionDataset, rows: int, batch_size: int) -> None:
    """Require that a training set has at least one batch to craft on.

    Raises:
        UsageError: it has fewer rows.
    """
    if rows < batch_size:
        raise UsageError(
            f"{train.name}: {rows} training rows are fewer than one crafting batch of {batch_size}; give more data or "
            "a smaller batch_size to the attack"
        )


ATTACKS: Registry[Attack] = Registry("attack", "attacks", Attack)

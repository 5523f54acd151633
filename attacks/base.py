"""The attack contract: craft a poison for a training set with a surrogate model."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch

from attacks.poison import Poison
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.progress import Progress
from benchmark.core.registry import Registry
from benchmark.data import CaptionDataset
from victims.clip import Clip

Surrogate = Callable[[int], Clip]
"""Builds the surrogate with weights drawn from a seed, on the device that crafts."""


class Attack(ABC):
    """What an owner does to a training set before publishing it. The constructor checks its parameters.

    Attributes:
        version: of the attack's code; part of the poison's address in the cache, so raise it with every change of
            what is crafted. A plugin may leave it: its file is part of the address.
        part_of: name of the attack with the same parameters from whose poison :meth:`derive_from` makes this one's.
            That poison is crafted and kept once for both. ``None``: the attack crafts its own.
    """

    version: ClassVar[int] = 1
    part_of: ClassVar[str | None] = None

    @abstractmethod
    def label(self) -> str:
        """The name in tables, e.g. ``MEM-3``."""

    @abstractmethod
    def progress_steps(self, train: CaptionDataset) -> int:
        """How often :meth:`craft` tells its progress for a training set."""

    def identity(self) -> str:
        """What decides the poison besides parameters, data, surrogate and seed, e.g. the content of a file."""
        return ""

    def describe(self) -> str:
        """The strength in words, for the lines under a table; empty where there is nothing to say."""
        return ""

    def check(self, train: CaptionDataset) -> None:
        """Called before any work of a run begins.

        Raises:
            UsageError: the data do not suit the attack.
        """
        return

    def derive_from(self, whole: Poison) -> Poison:
        """This attack's poison, from that of the attack that it is ``part_of``."""
        return whole

    @abstractmethod
    def craft(
        self,
        train: CaptionDataset,
        surrogate: Surrogate,
        *,
        seed: int,
        device: torch.device,
        workdir: Path,
        progress: Progress,
        checkpoint: Checkpoint | None = None,
    ) -> Poison:
        """Craft the poison of a training set; the set is left as it is.

        Args:
            train: the clean training split.
            surrogate: builds the surrogate model from a seed.
            seed: all random choices derive from it.
            device: where to compute.
            workdir: folder for large intermediate files.
            progress: told of every unit of work.
            checkpoint: where long crafting may keep its state, to go on from it after a kill; ``None``: nowhere.

        Raises:
            UsageError: the data do not suit the attack.
            VictimDiverged: the surrogate's loss is not finite.
        """


ATTACKS: Registry[Attack] = Registry("attack", "attacks", Attack)

"""A plug-in for grids that run in other processes: the small victim, and defenses and an attack that go wrong."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip

from attacks import ATTACKS, Attack, CraftContext, Poison
from benchmark.core.idle_cpus import idle_cpus
from benchmark.data import CaptionDataset
from defenses import DEFENSES, Defense

open_clip.add_model_config(Path(__file__).parent / "configs")


def _counted(note: Path) -> int:
    """Add a line for an epoch; returns how many there are."""
    with note.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len(note.read_text().splitlines())


def _wait_for_an_idle_cpu() -> None:
    deadline = time.monotonic() + 60
    while not idle_cpus():
        if time.monotonic() > deadline:
            raise TimeoutError("no CPU gets idle")
        time.sleep(0.05)


@DEFENSES.register("fragile")
@dataclass(frozen=True)
class Fragile(Defense):
    """Kills its process once, some seconds into the third epoch; changes nothing. ``note`` takes a line an epoch."""

    note: Path
    wait: float = 0.0
    by: int = signal.SIGKILL

    def on_captions(self, captions: Any, context: Any) -> Any:
        """Count the epoch."""
        if _counted(self.note) == 3:
            time.sleep(self.wait)
            os.kill(os.getpid(), self.by)
        return captions


@DEFENSES.register("starved")
@dataclass(frozen=True)
class Starved(Defense):
    """Has no memory on the node that it comes to first; changes nothing. ``note`` takes that node's cache."""

    note: Path

    def on_captions(self, captions: Any, context: Any) -> Any:
        """Look where it is."""
        here = os.environ["UNLEARNABLE_BENCH_CACHE"]
        if not self.note.exists():
            self.note.write_text(here)
        if self.note.read_text() == here:
            raise MemoryError("another cell has it all")
        return captions


@DEFENSES.register("paced")
@dataclass(frozen=True)
class Paced(Defense):
    """Waits in every epoch; changes nothing. ``note`` takes a line an epoch."""

    note: Path
    wait: float = 0.0

    def on_captions(self, captions: Any, context: Any) -> Any:
        """Count the epoch."""
        _counted(self.note)
        time.sleep(self.wait)
        return captions


@DEFENSES.register("shared-cpu")
@dataclass(frozen=True)
class SharedCpu(Defense):
    """Cannot train unless another CPU gets idle meanwhile; changes nothing."""

    def on_captions(self, captions: Any, context: Any) -> Any:
        """Wait for the CPU."""
        _wait_for_an_idle_cpu()
        return captions


@ATTACKS.register("shared")
@dataclass(frozen=True)
class Shared(Attack):
    """Cannot be crafted unless another CPU gets idle meanwhile; changes nothing."""

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Wait for the CPU."""
        _wait_for_an_idle_cpu()
        return Poison(None, None, 0, train.fingerprint)


@ATTACKS.register("uncraftable")
@dataclass(frozen=True)
class Uncraftable(Attack):
    """Cannot be crafted."""

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Fail."""
        raise ArithmeticError("no such poison")


@ATTACKS.register("unkept")
@dataclass(frozen=True)
class Unkept(Attack):
    """Breaks the way to a store of files for the next file that its process puts there; changes nothing."""

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """Break it."""
        from fsspec.implementations.local import LocalFileSystem

        put_file = LocalFileSystem.put_file

        def fail(*arguments: Any, **more: Any) -> None:
            setattr(LocalFileSystem, "put_file", put_file)  # noqa: B010
            raise OSError("no route to the store")

        setattr(LocalFileSystem, "put_file", fail)  # noqa: B010
        return Poison(None, None, 0, train.fingerprint)

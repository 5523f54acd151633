"""Checkpoints of long stages: the whole state in one file, replaced atomically, so that a killed run can resume."""

import errno
import json
import logging
import math
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmark.core.atomic_files import replacing
from benchmark.core.distributed import Processes
from benchmark.core.errors import UsageError, first_line

# Of an OSError: without a number it is a library's own; a position that damage made up is no valid argument.
_OF_DAMAGE = (None, errno.EINVAL, errno.ENOENT)
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class UnfitCheckpointError(Exception):
    """An intact checkpoint that its stage cannot load, such as one of another version of the code."""


@dataclass
class Checkpoint:
    """The checkpoint file of one stage.

    Attributes:
        path: the file; ``None`` saves nothing.
        every: units (epochs, crafting rounds) between two checkpoints. With 0 none is saved, but one that an earlier
            run saved is used all the same.
        notes: JSON values that the stage's caller wants saved along with the state.
        earlier: seconds of work in the loaded checkpoint, by runs that were killed.
        check_notes: raises an error if loaded notes are not as the caller writes them.
    """

    path: Path | None = None
    every: int = 1
    notes: dict[str, Any] = field(default_factory=dict)
    earlier: float = 0.0
    check_notes: Callable[[dict[str, Any]], object] = lambda notes: None
    _start: float = field(default_factory=time.monotonic)

    @classmethod
    def beside(cls, result: Path, every: int) -> "Checkpoint":
        """The checkpoint for the file ``result``: a hidden file beside it."""
        return cls(result.with_name(f".{result.name}.checkpoint"), every)

    def is_due(self, unit: int, last: int) -> bool:
        """Whether this process saves after ``unit`` (from 1); not after the last, whose result is saved instead."""
        saves = self.path is not None and self.every > 0
        return saves and unit % self.every == 0 and unit < last and Processes.current().is_first

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by ``state``: tensors, numbers, strings, and lists and dicts of them.

        Raises:
            TypeError: it holds something else, which could not be loaded without executing code.
            UsageError: the folder cannot be written to, or the disk is full; the old checkpoint is kept.
        """
        assert self.path is not None, "a checkpoint is saved only where is_due() says so"
        _require_kinds(state)
        seconds = self.earlier + time.monotonic() - self._start
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            try:
                torch.save({"state": state, "notes": json.dumps(self.notes), "seconds": seconds}, file)
            except RuntimeError as error:
                # torch tells of a full disk by an error of its own, raised while it handles the system's.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from error
                raise

    def load(self) -> dict[str, Any] | None:
        """The state last saved; ``None`` if there is none or it is damaged. Its notes go into :attr:`notes`.

        Call this when the stage begins. Tensors are memory-mapped. Nothing in the file is executed.

        Raises:
            UsageError: it cannot be read now. It may be whole, so that none must take its place.
            RuntimeError: several processes have read different checkpoints.
        """
        state = self._load()
        if not Processes.current().all_equal(self.earlier):
            raise RuntimeError(f"processes have read different checkpoints {self.path}")
        return state

    def _load(self) -> dict[str, Any] | None:
        self._start = time.monotonic()
        if self.path is None or not self.exists():
            return None
        try:
            with zipfile.ZipFile(self.path) as parts:
                if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
                    raise ValueError("a compressed part")
                if (damaged := parts.testzip()) is not None:
                    raise ValueError(f"checksum of {damaged}")
            content = _content(self.path)
            state, notes, seconds = content["state"], json.loads(content["notes"]), _seconds(content)
            if not isinstance(state, dict) or not isinstance(notes, dict):
                raise TypeError("no state or notes")
            self.check_notes(notes)
        except Exception as error:  # readers meet damage with errors of every kind; each of them means a new start
            if isinstance(error, OSError) and error.errno not in _OF_DAMAGE:
                raise UsageError(f"cannot read checkpoint {self.path}: {error.strerror or error}") from error
            _log.warning("checkpoint %s is damaged (%s) and is ignored", self.path, first_line(error))
            return None
        self.notes.update(notes)
        self.earlier = seconds
        _log.debug("going on from checkpoint %s", self.path)
        return state

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Enclose the code that restores a loaded state.

        Raises:
            UnfitCheckpointError: the state does not fit. Objects may have been restored in part, so do not use them.
        """
        try:
            yield
        except Exception as error:
            raise UnfitCheckpointError(first_line(error)) from error

    def afresh_if_unfit(self, stage: Callable[[], _T]) -> _T:
        """Run a stage and return its result. If its checkpoint does not fit, warn, remove it and run the stage again.

        Args:
            stage: can run twice, because it changes only objects that it makes itself.
        """
        try:
            return stage()
        except UnfitCheckpointError as error:
            _log.warning("checkpoint %s does not fit (%s) and is ignored", self.path, error)
        self.discard()
        self.notes.clear()
        self.earlier = 0.0
        return stage()

    def seconds_worked(self) -> float:
        """Seconds that killed runs spent up to the saved checkpoint; 0 if there is none or it is damaged."""
        if self.path is None or not self.exists():
            return 0.0
        try:
            return _seconds(_content(self.path))
        except Exception:
            return 0.0  # load() reports it

    def exists(self) -> bool:
        """Whether the file exists."""
        return self.path is not None and self.path.is_file()

    def discard(self) -> None:
        """Remove the file, once the stage's result has been saved."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _require_kinds(state: Any, where: str = "") -> None:
    """Refuse what loading would take for damage, such as arrays and numbers of NumPy's."""
    if isinstance(state, dict):
        for key, value in state.items():
            _require_kinds(key, where)
            _require_kinds(value, f"{where}[{key!r}]")
    elif isinstance(state, list | tuple):
        for value in state:
            _require_kinds(value, where)
    elif not isinstance(state, torch.Tensor) and type(state) not in (bool, int, float, str, bytes, type(None)):
        kind = f"{type(state).__module__}.{type(state).__qualname__}"
        raise TypeError(f"a checkpoint holds tensors, numbers, strings, lists and dicts; state{where} is a {kind}")


def _content(path: Path) -> dict[str, Any]:
    return dict(torch.load(path, map_location="cpu", mmap=True, weights_only=True))


def _seconds(content: dict[str, Any]) -> float:
    seconds = float(content["seconds"])
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{seconds} seconds")
    return seconds

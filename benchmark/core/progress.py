"""Progress of long work and the time left: a bar on a terminal, an occasional line in a log."""

import logging
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Protocol, TypeVar, cast

from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from benchmark.core.printing import cursor_back_at_sigterm, terminal
from benchmark.core.time_left import TimeLeft

_log = logging.getLogger(__name__)

T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 20.0
_SECONDS_BETWEEN_BARS = 0.2


class Progress(Protocol):
    """Receives the progress of a stage."""

    def advance(self, note: str = "") -> None:
        """Report one more finished unit; ``note`` is shown beside the progress, e.g. the loss."""
        ...

    def resume(self, units: int) -> None:
        """Report units finished by an earlier run; called before the first :meth:`advance`."""
        ...


class Silent:
    """Progress that is not shown."""

    def advance(self, note: str = "") -> None:
        """Nothing to show."""

    def resume(self, units: int) -> None:
        """Nothing to show."""


class _Counted(ABC):
    """Counts the steps of a stage; a subclass displays them."""

    def __init__(self, time_left: TimeLeft) -> None:
        self._time_left, self._note = time_left, ""

    def advance(self, note: str = "") -> None:
        """Count a finished step."""
        self._time_left.advance()
        self._note = note or self._note
        self._show()

    def resume(self, units: int) -> None:
        self._time_left.resume(units)

    @abstractmethod
    def _show(self) -> None:
        """Display where the stage stands."""

    def _left(self) -> str:
        """``2 min 05 s left``; in a run of several stages ``2 min 05 s left (run: 1 h 10 min)``."""
        stage, run = self._time_left.left_in_task(), self._time_left.left()
        return f"{clock(stage)} left" + (f" (run: {clock(run)})" if run is not None and run > stage else "")


class _Bar(_Counted):
    def __init__(self, progress: RichProgress, task: TaskID, time_left: TimeLeft) -> None:
        super().__init__(time_left)
        self._progress, self._task, self._shown = progress, task, -math.inf

    def _show(self) -> None:
        if time.monotonic() - self._shown < _SECONDS_BETWEEN_BARS:
            return
        self._shown = time.monotonic()
        self._progress.update(self._task, completed=self._time_left.share_done(), note=self._note, left=self._left())


class _Lines(_Counted):
    def __init__(self, label: str, time_left: TimeLeft) -> None:
        super().__init__(time_left)
        self._label, self._last = label, time.monotonic()

    def _show(self) -> None:
        """Print a line at most every 20 seconds."""
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        share = int(100 * self._time_left.share_done() + 1e-6)
        _log.info("%s: %s %%, %s  %s", self._label, share, self._left(), self._note)


def is_shown() -> bool:
    """Whether progress is shown: only if messages of level INFO are shown."""
    return _log.isEnabledFor(logging.INFO)


@contextmanager
def stage(label: str, total: int, time_left: TimeLeft | None = None, task: str = "") -> Iterator[Progress]:
    """Show the progress of ``total`` units of work on standard error while the block runs.

    Nothing is shown for 0 units, or if messages of level INFO are not shown. With more than 0 units, steps are counted
    nevertheless if another process shows the progress.

    Args:
        label: the first words of the line.
        total: how often :meth:`Progress.advance` will be called.
        time_left: the tasks of the run that the stage belongs to; by default the stage is a run of its own.
        task: the stage's name among them. Without expected costs, all steps count the same.
    """
    time_left = time_left or TimeLeft()
    if total == 0 or not (is_shown() or time_left.is_shown_elsewhere):
        time_left.drop(task)
        yield Silent()
        return
    with time_left.working(task or label, total):
        if time_left.is_shown_elsewhere or not sys.stderr.isatty():
            yield _Lines(label, time_left)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[left]}", markup=False),
            # On a narrow terminal the note is cut, not the time.
            TextColumn(
                "{task.fields[note]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            ),
        )
        shown = RichProgress(*columns, console=terminal(stderr=True), transient=True, expand=True)
        with cursor_back_at_sigterm(), shown as progress:
            yield _Bar(progress, progress.add_task(label, total=1.0, note="", left=""), time_left)


def tracked(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Iterate over items and show the progress; ``total`` is needed if they have no length.

    Raises:
        TypeError: neither a length nor a ``total``.
    """
    with stage(label, len(cast(Sized, items)) if total is None else total) as shown:
        for item in items:
            yield item
            shown.advance()


def clock(seconds: float) -> str:
    """A duration in words: ``47 s``, ``3 min 05 s``, ``2 h 10 min``."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"


def roughly(seconds: float) -> str:
    """A rounded duration: ``20 s``, ``12 min``, ``2.5 h``, ``40 h``."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 10 * 3600 else f"{round(seconds / 3600)} h"

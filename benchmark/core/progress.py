"""Progress of long work and the time left: a bar on a terminal, an occasional line in a log."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Protocol, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

_log = logging.getLogger(__name__)

T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 20.0


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


class _Bar:
    def __init__(self, progress: RichProgress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, note: str = "") -> None:
        self._progress.advance(self._task)
        if note:
            self._progress.update(self._task, note=note)

    def resume(self, units: int) -> None:
        self._progress.update(self._task, completed=units)


class _Lines:
    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._done, self._resumed, self._note = label, total, 0, 0, ""
        self._start = self._last = time.monotonic()

    def advance(self, note: str = "") -> None:
        """Print a line at most every 20 seconds."""
        self._done += 1
        self._note = note or self._note
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        left = (now - self._start) / (self._done - self._resumed) * (self._total - self._done)
        share = 100 * self._done // self._total
        _log.info("%s: %s %%, %s left  %s", self._label, share, clock(left), self._note)

    def resume(self, units: int) -> None:
        self._done = self._resumed = units


@contextmanager
def stage(label: str, total: int) -> Iterator[Progress]:
    """Show the progress of ``total`` units of work on standard error while the block runs.

    With 0 units, or where messages of level INFO are not shown, nothing.
    """
    if total == 0 or not _log.isEnabledFor(logging.INFO):
        yield Silent()
        return
    if not sys.stderr.isatty():
        yield _Lines(label, total)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        # On a narrow terminal the note is cut, not the time.
        TextColumn(
            "{task.fields[note]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        ),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True, expand=True) as progress:
        yield _Bar(progress, progress.add_task(label, total=total, note=""))


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

"""Progress of long work, with time left: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Protocol, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 20.0


class Progress(Protocol):
    """Something that is told how far a stage has come."""

    def advance(self, note: str = "") -> None:
        """One more unit is done; ``note`` says how things stand, e.g. the loss."""
        ...

    def resume(self, units: int) -> None:
        """That many units were done by an earlier run; called before the first :meth:`advance`."""
        ...


class Silent:
    """A stage that nobody watches."""

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
        """A unit is done; a line is printed now and then."""
        self._done += 1
        self._note = note or self._note
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        left = (now - self._start) / (self._done - self._resumed) * (self._total - self._done)
        share = 100 * self._done // self._total
        print(f"{self._label}: {share} %, {clock(left)} left  {self._note}", file=sys.stderr, flush=True)

    def resume(self, units: int) -> None:
        self._done = self._resumed = units


@contextmanager
def stage(label: str, total: int) -> Iterator[Progress]:
    """Show the progress of ``total`` units of work on standard error while the block runs; of none, nothing."""
    if total == 0:
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
        # On a narrow terminal the note gives way, not the time.
        TextColumn(
            "{task.fields[note]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        ),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True, expand=True) as progress:
        yield _Bar(progress, progress.add_task(label, total=total, note=""))


def tracked(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """The items one by one, with their progress shown; ``total`` where they have no length.

    Raises:
        TypeError: neither a length nor a ``total``.
    """
    with stage(label, len(cast(Sized, items)) if total is None else total) as shown:
        for item in items:
            yield item
            shown.advance()


def clock(seconds: float) -> str:
    """Seconds as people read them: ``47 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"

"""Where a run stands: cells by state, what runs where, the time left, failures; for people and for other programs."""

import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from benchmark.core.printing import cursor_back_at_sigterm, printable, terminal
from benchmark.core.progress import clock, is_shown
from benchmark.core.time_left import Pace, Task
from benchmark.grid.events import Events
from benchmark.grid.records import Record
from benchmark.grid.sharing import facts_of, outcome
from benchmark.grid.units import Unit

if TYPE_CHECKING:
    from rich.console import RenderableType

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 60.0
_SECONDS_BETWEEN_EVENTS = 5.0
_SECONDS_BETWEEN_TABLES = 0.5
_SECONDS_BETWEEN_ESTIMATES = 1.0
_ESTIMATING = 0.02  # at most this share of the time, however many units there are
_MOST_FAILURES = 10  # on the table of a terminal
_MOST_RUNNING = 10  # in a line of a log


class Board:
    """The units of a run and their states: ``waiting``, ``running``, ``done``, ``failed``.

    Args:
        units: all, in order.
        pace: their expected times.
        events: where every change is told.
    """

    def __init__(self, units: Sequence[Unit], pace: Pace, events: Events) -> None:
        self.units = {unit.name: unit for unit in units}
        self.state = dict.fromkeys(self.units, "waiting")
        self.workers = 1
        self._pace, self._events = pace, events
        self._where: dict[str, str] = {}
        self._share: dict[str, float] = {}
        self._failures: dict[str, str] = {}
        self._ended, self.cells = 0, sum(not unit.crafts for unit in units)
        self._left: float | None = None
        self._next_estimate = self._table_drawn = -math.inf
        self._draw_table: Callable[[], None] = lambda: None
        self._line = self._event = time.monotonic()
        events.tell("plan", units=len(units), cells=self.cells)

    def order_for(self, workers: int) -> list[Unit]:
        """All units, in the order in which so many workers are done soonest, as far as their times are known."""
        names = self._pace.best_order([(unit.name, unit.needs) for unit in self.units.values()], workers)
        self.units = {name: self.units[name] for name in names}
        return list(self.units.values())

    def task(self, unit: Unit) -> Task:
        """What a unit is expected to cost."""
        return self._pace.task(unit.name)

    def begins(self, unit: Unit, where: str) -> None:
        """A worker begins a unit."""
        self._where[unit.name] = where
        self._share[unit.name] = 0.0
        self._pace.begins(unit.name)
        self._becomes(unit, "running", where=where)

    def reaches(self, unit: Unit, share: float, *, resumed: bool = False, seconds: float | None = None) -> None:
        """A running unit has reached a share of its work; see :meth:`benchmark.core.time_left.Pace.reaches`."""
        self._share[unit.name] = share
        self._pace.reaches(unit.name, share, resumed=resumed, seconds=seconds)

    def waits(self, unit: Unit, reason: str) -> None:
        """A unit that ran waits again, as after the death of its worker."""
        self._pace.stops(unit.name, done=False)
        self._becomes(unit, "waiting", reason=reason, where=self._where.pop(unit.name))

    def ends(self, unit: Unit, record: Record | None = None, failure: str | None = None) -> None:
        """A unit is done, or has failed; one that never ran fails with its poison.

        Args:
            unit: which.
            record: what a cell ended with, done or failed.
            failure: why a poison could not be crafted.
        """
        if record is not None and record.status == "failed":
            failure = record.failure
        where = self._where.pop(unit.name, None)
        self._share.pop(unit.name, None)
        if where is not None:
            self._pace.stops(unit.name, done=failure is None)
        self._ended += not unit.crafts
        facts = {"reason": failure} if record is None else facts_of(record)
        self._becomes(unit, "done" if failure is None else "failed", where=where, **facts)
        if failure is not None:
            self._failures[unit.name] = failure
        if not unit.crafts:
            said = f"failed: {failure}" if record is None else outcome(record)
            _log.info("[%s/%s] %s: %s%s", self._ended, self.cells, unit.title, said, self._rest())
        elif failure is not None:
            _log.warning("%s failed: %s", unit.title, failure)

    def left(self) -> float | None:
        """Seconds until all is done, as estimated a second ago or, with many units, some seconds ago.

        ``None`` before anything is known of the speed.
        """
        if (start := time.monotonic()) >= self._next_estimate:
            waiting = [(unit.name, unit.needs) for unit in self.units.values() if self.state[unit.name] == "waiting"]
            self._left = self._pace.left(waiting, self.workers)
            end = time.monotonic()
            self._next_estimate = end + max(_SECONDS_BETWEEN_ESTIMATES, (end - start) / _ESTIMATING)
        return self._left

    def tick(self) -> None:
        """Update the table or the log, and the events, if their last update is long enough ago. Call this often."""
        now = time.monotonic()
        if now - self._table_drawn >= _SECONDS_BETWEEN_TABLES:
            self._table_drawn = now
            self._draw_table()
        if now - self._event >= _SECONDS_BETWEEN_EVENTS:
            self._event = now
            running = [
                {"name": name, "title": self.units[name].title, "where": where, "share": round(self._share[name], 3)}
                for name, where in self._where.items()
            ]
            left = self.left()
            self._events.tell(
                "progress", **self.counts(), seconds_left=None if left is None else round(left), now=running
            )
        if now - self._line >= _SECONDS_BETWEEN_LINES and not sys.stderr.isatty():
            self._line = now
            parts = [
                f"{self.units[name].title}: {self._percent(name)} ({where})"
                for name, where in islice(self._where.items(), _MOST_RUNNING)
            ]
            if (more := len(self._where) - len(parts)) > 0:
                parts.append(f"and {more} more")
            _log.info("%s%s", "; ".join(parts) or "nothing runs at present", self._rest())

    def counts(self) -> dict[str, int]:
        """Cells by state."""
        found = Counter(self.state[name] for name, unit in self.units.items() if not unit.crafts)
        return {state: found[state] for state in ("waiting", "running", "done", "failed")}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Let :meth:`tick` draw a live table while the block runs, where standard error is a terminal."""
        if not (is_shown() and sys.stderr.isatty()):
            yield
            return
        from rich.live import Live

        # A thread of rich's that draws would read what this one changes.
        shown = Live(console=terminal(stderr=True), get_renderable=self._table, transient=True, auto_refresh=False)
        with cursor_back_at_sigterm(), shown as live:
            self._draw_table = live.refresh
            yield

    def _table(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in ("where", "done", "running now"):
            table.add_column(column, overflow="ellipsis", no_wrap=True)
        for name, where in self._where.items():
            table.add_row(*map(Text, map(printable, (where, self._percent(name), self.units[name].title))))
        failures = [f"{self.units[name].title} failed: {reason}" for name, reason in self._failures.items()]
        counts = ", ".join(f"{number} {state}" for state, number in self.counts().items())
        head = f"{'1 cell' if self.cells == 1 else f'{self.cells} cells'}: {counts}{self._rest()}"
        return Group(Text(printable(head)), table, *(Text(printable(line)) for line in failures[-_MOST_FAILURES:]))

    def _becomes(self, unit: Unit, state: str, **facts: Any) -> None:
        self.state[unit.name] = state
        kind = "poison" if unit.crafts else "cell"
        known = {name: value for name, value in facts.items() if value is not None}
        self._events.tell(kind, name=unit.name, title=unit.title, state=state, **known)

    def _percent(self, name: str) -> str:
        return f"{int(100 * self._share[name] + 1e-6)} %"

    def _rest(self) -> str:
        left = self.left() if "waiting" in self.state.values() or self._where else None
        return "" if left is None else f"; {clock(left)} left"

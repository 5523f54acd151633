"""The time left in a run: the expected times of its tasks, corrected by the times measured so far."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmark.core.schedule import Job, seconds_until_done, soonest_done

# After this share of a task, its own speed counts as much as the speed of the whole run.
_OWN_SPEED_FROM = 0.1
_AS_EXPECTED: Mapping[bool, float] = {True: 1.0, False: 1.0}


@dataclass(frozen=True)
class Task:
    """A poison to craft or a victim to train.

    Attributes:
        kind: tasks of one kind take the same time. After one of them has run, its time is expected of the others.
        costs: (S,) expected cost of each step, in order, in a unit that all tasks share. Entries beyond the last step
            are work that follows it. ``None``: the cost is unknown.
        done: the cost that an earlier run has spent already. The number of its steps is known only when the task
            resumes.
        crafts: whether it is a poison. Idle CPUs help to craft before they help to train, so that its speed says
            nothing of a victim's.
    """

    kind: str
    costs: NDArray[np.float64] | None = None
    done: float = 0.0
    crafts: bool = False

    @cached_property
    def cost(self) -> float:
        """The cost of all steps; 0 if it is unknown."""
        return 0.0 if self.costs is None else float(self.costs.sum())

    @property
    def cost_left(self) -> float:
        """The cost of the steps that are not done; 0 if it is unknown."""
        return max(0.0, self.cost - self.done)

    @property
    def share_left(self) -> float:
        """The share of the cost that is not done, from 0 to 1; 1 if it is unknown or nothing."""
        return self.cost_left / self.cost if self.cost else 1.0

    def share_after(self, steps: float) -> float:
        """The share of the cost that is spent after a share of the steps; the same number if costs are unknown."""
        if self.costs is None or not self.cost:
            return steps
        done_after = np.concatenate([[0.0], np.cumsum(self.costs)]) / self.cost
        return float(np.interp(steps * len(self.costs), np.arange(len(done_after)), done_after))


class Pace:
    """The times of a run's tasks, on one worker or several: what was expected, corrected by what is measured.

    The time left is the cost left times the seconds that a unit of cost has taken in this run. A task of unknown cost
    is not counted until it runs or another task of its kind has run.

    Args:
        tasks: by name, in any order; a task that is not among them has an unknown cost.
        trusted: if costs are in seconds, the length of an imaginary run that took exactly as long as expected. It
            keeps the first steps from deciding alone. 0 if costs are in another unit.
        clock: seconds from any start.
    """

    def __init__(
        self, tasks: Mapping[str, Task], trusted: float = 0.0, clock: Callable[[], float] | None = None
    ) -> None:
        self._tasks, self._trusted, self._clock = dict(tasks), trusted, clock or time.monotonic
        self._running: dict[str, _Begun] = {}
        self._seen: dict[str, tuple[float, int]] = {}  # seconds of all finished tasks of a kind, and their number
        self._seconds, self._cost = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}  # by whether a task crafts

    def task(self, name: str) -> Task:
        """The task of that name."""
        return self._tasks.get(name) or Task(name)

    def begins(self, name: str) -> None:
        """A worker begins a task, perhaps again."""
        self._running[name] = _Begun(self._clock())

    def reaches(self, name: str, share: float, *, resumed: bool = False, seconds: float | None = None) -> None:
        """A running task has reached a share of its cost.

        Args:
            name: the task.
            share: from 0 to 1.
            resumed: an earlier run has done it.
            seconds: how long its worker has been working on it; ``None``: since :meth:`begins` was called.
        """
        begun = self._running[name]
        if seconds is not None:
            begun.start = self._clock() - seconds
        if resumed or begun.first is None:
            begun.first = share if resumed else 0.0
        begun.share = share

    def stops(self, name: str, *, done: bool) -> None:
        """A task runs no longer. Its time counts in later estimates only if it is done."""
        begun, task = self._running.pop(name), self.task(name)
        seconds, worked = self._clock() - begun.start, 1 - (begun.first or 0.0)
        if not done or worked <= 0:
            return
        total, count = self._seen.get(task.kind, (0.0, 0))
        self._seen[task.kind] = total + seconds / worked, count + 1
        if task.cost:
            self._seconds[task.crafts] += seconds
            self._cost[task.crafts] += task.cost * worked

    def left(self, waiting: Sequence[tuple[str, str | None]], workers: int) -> float | None:
        """Seconds until all is done; ``None`` before anything is known of the speed.

        Args:
            waiting: the names of the tasks that have not begun, in order, each with the task that it needs.
            workers: how many run at a time.
        """
        speeds = self._speeds()
        if speeds is None:
            return None
        running = {name: self._left_of(name, begun, speeds) for name, begun in self._running.items()}
        return seconds_until_done(self._jobs(waiting, speeds), running, workers)

    @property
    def is_known(self) -> bool:
        """Whether anything is known of the speed."""
        return self._speeds() is not None

    def one_by_one(self, waiting: Iterable[str] = ()) -> float:
        """Seconds of what runs and of tasks that have not begun, one after the other.

        Before anything is known of the speed, a unit of cost takes a second.
        """
        speeds = self._speeds() or _AS_EXPECTED
        running = sum(self._left_of(name, begun, speeds) for name, begun in self._running.items())
        return running + sum(self._expected(name, speeds) for name in waiting)

    def best_order(self, waiting: Sequence[tuple[str, str | None]], workers: int) -> list[str]:
        """The names of the tasks in the order in which all are done soonest; see :func:`soonest_done`.

        Args:
            waiting: as for :meth:`left`.
            workers: how many run at a time.
        """
        return [job.name for job in soonest_done(self._jobs(waiting, self._speeds() or _AS_EXPECTED), workers)]

    def cost_done(self) -> float:
        """The cost that this run has spent on tasks that are done or run."""
        return sum(self._spent()[1].values())

    def _jobs(self, waiting: Sequence[tuple[str, str | None]], speeds: Mapping[bool, float]) -> list[Job]:
        return [Job(name, self._expected(name, speeds), needs) for name, needs in waiting]

    def _spent(self) -> tuple[Mapping[bool, float], Mapping[bool, float]]:
        """Seconds, and the cost that was done in them, by whether a task crafts."""
        seconds, cost = dict(self._seconds), dict(self._cost)
        for name, begun in self._running.items():
            task = self.task(name)
            if task.cost and begun.done:
                seconds[task.crafts] += self._clock() - begun.start
                cost[task.crafts] += task.cost * begun.done
        return seconds, cost

    def _speeds(self) -> Mapping[bool, float] | None:
        """Seconds that a unit of cost takes on a worker, in crafting and in training.

        If costs are not in seconds and only one of the two has run, the other is expected to be as fast.
        """
        seconds, cost = self._spent()
        if self._trusted:  # costs are in seconds
            return {crafts: (seconds[crafts] + self._trusted) / (cost[crafts] + self._trusted) for crafts in cost}
        if not (whole := sum(cost.values())):
            return None
        of_both = sum(seconds.values()) / whole
        return {crafts: seconds[crafts] / cost[crafts] if cost[crafts] else of_both for crafts in cost}

    def _expected(self, name: str, speeds: Mapping[bool, float]) -> float:
        return self._whole(name, speeds) * self.task(name).share_left

    def _left_of(self, name: str, begun: "_Begun", speeds: Mapping[bool, float]) -> float:
        seconds, whole = self._clock() - begun.start, self._whole(name, speeds)
        if begun.first is None:  # it has not said yet where it stands
            return max(0.0, self._expected(name, speeds) - seconds)
        trusted = _OWN_SPEED_FROM if whole else 0.0
        own = (seconds + trusted * whole) / (begun.done + trusted) if begun.done + trusted else 0.0
        return own * (1 - begun.share)

    def _whole(self, name: str, speeds: Mapping[bool, float]) -> float:
        """Seconds of a task from its first step on; 0 if nothing is known of it."""
        task = self.task(name)
        total, count = self._seen.get(task.kind, (0.0, 0))
        return total / count if count else task.cost * speeds[task.crafts]


@dataclass
class _Begun:
    """A running task: when it began, the share that an earlier run had done, the share that is done."""

    start: float
    first: float | None = None
    share: float = 0.0

    @property
    def done(self) -> float:
        return self.share - (self.first or 0.0)


class TimeLeft:
    """The tasks of a run that are not done: those that wait, and the one that this process is at, by its steps.

    Args:
        tasks: as for :class:`Pace`.
        trusted: as for :class:`Pace`.
        clock: as for :class:`Pace`.

    Attributes:
        waiting: the tasks that have not begun, by name.
        pace: the times of the tasks.
        is_shown_elsewhere: another process shows how far a stage is, so that this one draws nothing on the terminal
            that they share.
    """

    is_shown_elsewhere: ClassVar[bool] = False

    def __init__(
        self,
        tasks: Mapping[str, Task] | None = None,
        *,
        trusted: float = 0.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.waiting = dict(tasks or {})
        self.pace = Pace(self.waiting, trusted, clock)
        self._elsewhere = 0.0
        self._steps: _Steps | None = None

    @contextmanager
    def working(self, name: str, steps: int) -> Iterator[None]:
        """Time a task while the block runs; the time of a block that raises is not expected of other tasks.

        Args:
            name: the task; a new name adds a task of unknown cost.
            steps: how often :meth:`advance` will be called.
        """
        self._steps = _Steps(name, self.waiting.pop(name, Task(name)), steps)
        self.pace.begins(name)
        done = False
        try:
            yield
            done = True
        finally:
            self.pace.stops(name, done=done)
            self._steps = None

    def advance(self) -> None:
        """Count a finished step of the running task."""
        self._reaches(self._current().done + 1)

    def resume(self, steps: int) -> None:
        """Count steps that an earlier run has done; called before the first :meth:`advance`."""
        self._reaches(steps, resumed=True)

    def drop(self, name: str) -> None:
        """Remove a task that will not run, e.g. because its poison could not be crafted."""
        self.waiting.pop(name, None)

    def done_elsewhere(self, name: str) -> None:
        """Remove a task that another run has finished since this one began."""
        if (task := self.waiting.pop(name, None)) is not None:
            self._elsewhere += task.cost_left

    def share_done(self) -> float:
        """The share of the running task that is done, from 0 to 1."""
        return self._current().share

    def left_in_task(self) -> float:
        """Seconds until the running task is done."""
        return self.pace.one_by_one()

    def left(self) -> float | None:
        """Seconds until all tasks are done, if other runs in the same folder keep taking their share of them.

        ``None`` while some wait and nothing is known of the speed.
        """
        if self.waiting and not self.pace.is_known:
            return None
        here = self.left_in_task()
        waiting = self.pace.one_by_one(self.waiting) - here
        if own := self.pace.cost_done():
            waiting *= own / (own + self._elsewhere)
        return waiting + here

    def _reaches(self, steps: int, *, resumed: bool = False) -> None:
        running = self._current()
        running.done = steps
        self.pace.reaches(running.name, running.share, resumed=resumed)

    def _current(self) -> "_Steps":
        assert self._steps is not None
        return self._steps


@dataclass
class _Steps:
    """The task that this process is at, and how many of its steps are done."""

    name: str
    task: Task
    count: int
    done: int = 0

    @property
    def share(self) -> float:
        """The share of the cost that the steps so far have taken."""
        if self.task.costs is None or not self.task.cost:
            return min(1.0, self.done / self.count) if self.count else 0.0
        return float(self.task.costs[: self.done].sum()) / self.task.cost

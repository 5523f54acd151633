"""The time left in a run: the expected times of its tasks, corrected by the times measured so far."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

# After this share of a task, its own speed counts as much as the speed of the whole run.
OWN_SPEED_FROM = 0.1


@dataclass(frozen=True)
class Task:
    """A poison to craft or a victim to train.

    Attributes:
        kind: tasks of one kind take the same time. After one of them has run, its time is expected of the others.
        costs: (S,) expected cost of each step, in order, in a unit that all tasks share. Entries beyond the last step
            are work that follows it. ``None``: the cost is unknown.
        done: the cost that an earlier run has spent already. The number of its steps is known only when the task
            resumes.
        crafts: whether it is a poison. Idle CPUs may help to craft, so that its speed says nothing of a victim's.
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
        """What share of the cost a share of the steps takes, the first ones; the same number if costs are unknown."""
        if self.costs is None or not self.cost:
            return steps
        done_after = np.concatenate([[0.0], np.cumsum(self.costs)]) / self.cost
        return float(np.interp(steps * len(self.costs), np.arange(len(done_after)), done_after))


class SecondsSeen:
    """The mean seconds that tasks of a kind have taken."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, kind: str, seconds: float) -> None:
        """A task of that kind has taken so long."""
        total, count = self._sums.get(kind, (0.0, 0))
        self._sums[kind] = total + seconds, count + 1

    def mean(self, kind: str) -> float | None:
        """The mean; ``None`` if none has run."""
        total, count = self._sums.get(kind, (0.0, 0))
        return total / count if count else None


class TimeLeft:
    """The tasks of a run that are not done, and the speed of those that are.

    The time left is the cost left times the seconds that a unit of cost has taken in this run. A task of unknown cost
    is not counted until another task of its kind has run.

    Args:
        tasks: by name, in any order.
        trusted: if costs are in seconds, the length of an imaginary run that took exactly as long as expected. It
            keeps the first steps from deciding alone. 0 if costs are in another unit.
        clock: seconds from any start.

    Attributes:
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
        self._clock = clock or time.monotonic
        self._waiting = dict(tasks or {})
        self._trusted = trusted
        self._seconds = self._cost = self._elsewhere = 0.0
        self._seen = SecondsSeen()
        self._running: _Running | None = None

    @property
    def waiting(self) -> Mapping[str, Task]:
        """The tasks that have not begun."""
        return self._waiting

    @property
    def trusted(self) -> float:
        """The length of the imaginary run; see above."""
        return self._trusted

    @contextmanager
    def working(self, name: str, steps: int) -> Iterator[None]:
        """Time a task while the block runs; the time of a block that raises is not expected of other tasks.

        Args:
            name: the task; a new name adds a task of unknown cost.
            steps: how often :meth:`advance` will be called.
        """
        task = self._waiting.pop(name, Task(name))
        running = self._running = _Running(task, steps, self._clock)
        try:
            yield
            self._seen.add(task.kind, running.whole_seconds())
            running.finish()
        finally:
            if task.costs is not None:
                self._seconds += running.seconds()
                self._cost += running.cost_done
            self._running = None

    def advance(self) -> None:
        """Count a finished step of the running task."""
        self._current().advance()

    def resume(self, steps: int) -> None:
        """Count steps that an earlier run has done; called before the first :meth:`advance`."""
        self._current().resume(steps)

    def drop(self, name: str) -> None:
        """Remove a task that will not run, e.g. because its poison could not be crafted."""
        self._waiting.pop(name, None)

    def done_elsewhere(self, name: str) -> None:
        """Remove a task that another run has finished since this one began."""
        if (task := self._waiting.pop(name, None)) is not None:
            self._elsewhere += task.cost_left

    def share_done(self) -> float:
        """The share of the running task that is done, from 0 to 1."""
        return self._current().share()

    def left_in_task(self) -> float:
        """Seconds until the running task is done."""
        return self._current().left(self._speed())

    def left(self) -> float:
        """Seconds until all tasks are done, if other runs in the same folder keep taking their share of them."""
        waiting = sum(self._expected(task) for task in self._waiting.values())
        own = self._cost + (self._running.cost_done if self._running else 0.0)
        if own:
            waiting *= own / (own + self._elsewhere)
        return waiting + (self.left_in_task() if self._running else 0.0)

    def _expected(self, task: Task) -> float:
        seen = self._seen.mean(task.kind)
        return task.cost_left * self._speed() if seen is None else seen * task.share_left

    def _speed(self) -> float:
        """Seconds that a unit of cost takes; 1 before anything is done."""
        seconds, cost = self._seconds + self._trusted, self._cost + self._trusted
        if self._running is not None and self._running.task.costs is not None:
            seconds, cost = seconds + self._running.seconds(), cost + self._running.cost_done
        return seconds / cost if cost else 1.0

    def _current(self) -> "_Running":
        assert self._running is not None
        return self._running


class _Running:
    """The task that runs now."""

    def __init__(self, task: Task, steps: int, clock: Callable[[], float]) -> None:
        self.task, self._clock, self._start = task, clock, clock()
        costs = np.ones(steps) if task.costs is None else task.costs
        self._done_after = np.concatenate([[0.0], np.cumsum(costs)])
        self._steps, self._resumed = 0, 0

    def advance(self) -> None:
        self._steps += 1

    def resume(self, steps: int) -> None:
        self._steps = self._resumed = steps

    def finish(self) -> None:
        self._steps = len(self._done_after) - 1

    @property
    def cost_done(self) -> float:
        """The cost of the steps that this run has done."""
        return self._until(self._steps) - self._until(self._resumed)

    def seconds(self) -> float:
        return self._clock() - self._start

    def whole_seconds(self) -> float:
        """Seconds of the finished task; if it was resumed, what all of its steps would have taken."""
        total = self._until(len(self._done_after))
        here = total - self._until(self._resumed)
        return self.seconds() * (total / here if here else 1.0)

    def share(self) -> float:
        total = self._until(len(self._done_after))
        return self._until(self._steps) / total if total else 0.0

    def left(self, speed: float) -> float:
        """Seconds left; ``speed`` is that of the whole run, in seconds per unit of cost."""
        total, done = self._until(len(self._done_after)), self.cost_done
        trusted = 0.0 if self.task.costs is None else OWN_SPEED_FROM * total
        own = (self.seconds() + trusted * speed) / (done + trusted) if done + trusted else 0.0
        return own * (total - self._until(self._steps))

    def _until(self, steps: int) -> float:
        return float(self._done_after[min(steps, len(self._done_after) - 1)])

"""When tasks on several workers will be done: each free worker takes the first task that can begin."""

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmark.core.time_left import OWN_SPEED_FROM, SecondsSeen, Task

_MOST_MOVED = 50
_WORTH_MOVING = 0.995  # of the time, or the order stays
_AS_EXPECTED: Mapping[bool, float] = {True: 1.0, False: 1.0}


@dataclass(frozen=True)
class Job:
    """A task that waits.

    Attributes:
        name: unique.
        seconds: how long it will take.
        needs: the task that has to be done before it begins; one that is unknown is done already.
    """

    name: str
    seconds: float
    needs: str | None = None


def seconds_until_done(waiting: Sequence[Job], running: Mapping[str, float], workers: int) -> float:
    """Seconds until all tasks are done.

    Args:
        waiting: in the order of preference.
        running: the seconds left of running tasks, by name.
        workers: how many run at a time, at least 1; running ones are among them.
    """
    unfinished = {job.name for job in waiting} | running.keys()
    ready: list[int] = []
    blocked: dict[str | None, list[int]] = defaultdict(list)
    for place, job in enumerate(waiting):
        (blocked[job.needs] if job.needs in unfinished else ready).append(place)
    ends = [(seconds, name) for name, seconds in running.items()]
    heapq.heapify(ends)
    now, free = 0.0, max(1, workers) - len(ends)
    while ready or ends:
        while ready and free > 0:
            job = waiting[heapq.heappop(ready)]
            heapq.heappush(ends, (now + job.seconds, job.name))
            free -= 1
        now = ends[0][0]
        while ends and ends[0][0] == now:
            _, name = heapq.heappop(ends)
            free += 1
            for place in blocked.pop(name, ()):
                heapq.heappush(ready, place)
    return now


def soonest_done(jobs: Sequence[Job], workers: int) -> list[Job]:
    """The order of preference in which all jobs are done soonest, as far as moving one at a time finds it.

    The longest first leaves a worker idle at the end where jobs are few. More than ``_MOST_MOVED`` stay as they are.

    Args:
        jobs: in an order that is good already.
        workers: how many run at a time.
    """
    best, seconds = list(jobs), seconds_until_done(jobs, {}, workers)
    while 1 < len(best) <= _MOST_MOVED:
        moved = []
        for job in best:
            others = [other for other in best if other is not job]
            moved += [[*others[:place], job, *others[place:]] for place in range(len(best))]
        sooner = min(moved, key=lambda order: seconds_until_done(order, {}, workers))
        if (found := seconds_until_done(sooner, {}, workers)) >= _WORTH_MOVING * seconds:
            break
        best, seconds = sooner, found
    return best


class Pace:
    """The tasks of a run on several workers: what they were expected to take, and what they take.

    Args:
        tasks: by name; a task that is not among them has an unknown cost.
        trusted: if costs are in seconds, the length of an imaginary run that took exactly as long as expected; else 0.
            See :class:`benchmark.core.time_left.TimeLeft`.
        clock: seconds from any start.
    """

    def __init__(
        self, tasks: Mapping[str, Task], trusted: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tasks, self._trusted, self._clock = dict(tasks), trusted, clock
        self._running: dict[str, _Begun] = {}
        self._seen = SecondsSeen()
        self._seconds, self._cost = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}  # by whether a task crafts

    def task(self, name: str) -> Task | None:
        """The task of that name, if its cost is known."""
        return self._tasks.get(name)

    def begins(self, name: str) -> None:
        """A worker begins a task, perhaps again."""
        self._running[name] = _Begun(self._clock())

    def reaches(self, name: str, share: float, *, resumed: bool = False, seconds: float | None = None) -> None:
        """A running task has reached a share of its cost.

        Args:
            name: the task.
            share: from 0 to 1.
            resumed: an earlier run has done it.
            seconds: for which its worker has been at it, where that tells more than when it was told to begin.
        """
        begun = self._running[name]
        if seconds is not None:
            begun.start = self._clock() - seconds
        if resumed or begun.first is None:
            begun.first = share if resumed else 0.0
        begun.share = share

    def stops(self, name: str, *, done: bool) -> None:
        """A running task is done; or it is not, and its time says nothing."""
        begun, task = self._running.pop(name), self._tasks.get(name)
        if not done:
            return
        seconds, worked = self._clock() - begun.start, 1 - (begun.first or 0.0)
        if task is not None and worked > 0:
            self._seen.add(task.kind, seconds / worked)
            if task.costs is not None:
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

    def best_order(self, waiting: Sequence[tuple[str, str | None]], workers: int) -> list[str]:
        """The names of the tasks in the order in which all are done soonest; see :func:`soonest_done`.

        Args:
            waiting: as for :meth:`left`.
            workers: how many run at a time.
        """
        return [job.name for job in soonest_done(self._jobs(waiting, self._speeds() or _AS_EXPECTED), workers)]

    def _jobs(self, waiting: Sequence[tuple[str, str | None]], speeds: Mapping[bool, float]) -> list[Job]:
        return [Job(name, self._expected(name, speeds), needs) for name, needs in waiting]

    def _speeds(self) -> Mapping[bool, float] | None:
        """Seconds that a unit of cost takes on a worker, in crafting and in training.

        Where costs are in no unit of time, what has not run yet goes as the other has gone.
        """
        seconds, cost = dict(self._seconds), dict(self._cost)
        for name, begun in self._running.items():
            task = self._tasks.get(name)
            if task is not None and task.costs is not None and begun.done:
                seconds[task.crafts] += self._clock() - begun.start
                cost[task.crafts] += task.cost * begun.done
        if self._trusted:  # costs are in seconds
            return {crafts: (seconds[crafts] + self._trusted) / (cost[crafts] + self._trusted) for crafts in cost}
        if not (whole := sum(cost.values())):
            return None
        of_both = sum(seconds.values()) / whole
        return {crafts: seconds[crafts] / cost[crafts] if cost[crafts] else of_both for crafts in cost}

    def _expected(self, name: str, speeds: Mapping[bool, float]) -> float:
        task = self._tasks.get(name)
        if task is None:
            return 0.0
        seen = self._seen.mean(task.kind)
        return task.cost_left * speeds[task.crafts] if seen is None else seen * task.share_left

    def _left_of(self, name: str, begun: "_Begun", speeds: Mapping[bool, float]) -> float:
        whole = self._whole(name, speeds)
        seconds = self._clock() - begun.start
        if begun.first is None:  # it has not said yet where it stands
            return max(0.0, self._expected(name, speeds) - seconds)
        own = (seconds + OWN_SPEED_FROM * whole) / (begun.done + OWN_SPEED_FROM)
        return own * (1 - begun.share)

    def _whole(self, name: str, speeds: Mapping[bool, float]) -> float:
        task = self._tasks.get(name)
        if task is None:
            return 0.0
        seen = self._seen.mean(task.kind)
        return task.cost * speeds[task.crafts] if seen is None else seen


@dataclass
class _Begun:
    """A running task: when it began, the share that an earlier run had done, the share that is done."""

    start: float
    first: float | None = None
    share: float = 0.0

    @property
    def done(self) -> float:
        return self.share - (self.first or 0.0)

"""When tasks on several workers will be done: each free worker takes the first task that can begin."""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MOST_MOVED = 50
_WORTH_MOVING = 0.995  # of the time, or the order stays


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

    If jobs are few, beginning with the longest can leave a worker idle at the end. With more than ``_MOST_MOVED`` jobs,
    the order stays as it is.

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

"""When tasks on several workers are done: worked by hand, and by a plain simulation second by second."""

import itertools
import random

import numpy as np
import pytest

from benchmark.core.schedule import Job, Pace, seconds_until_done, soonest_done
from benchmark.core.time_left import Task


def test_one_worker_does_one_after_the_other() -> None:
    assert seconds_until_done([Job("a", 3), Job("b", 4)], {"c": 2}, 1) == 9


def test_a_cell_waits_for_its_poison_while_others_run() -> None:
    jobs = [Job("poison", 10), Job("protected", 5, "poison"), Job("clean", 4)]
    assert seconds_until_done(jobs, {}, 2) == 15
    # Its poison is there already, or runs.
    assert seconds_until_done(jobs[1:], {}, 2) == 5
    assert seconds_until_done(jobs[1:], {"poison": 7}, 2) == 12
    assert seconds_until_done([], {}, 2) == 0


def second_by_second(jobs: list[Job], workers: int) -> float:
    left, now = list(jobs), 0
    running: dict[str, float] = {}
    while left or running:
        for job in list(left):
            undone = {one.name for one in left} | running.keys()
            if len(running) < workers and job.needs not in undone:
                left.remove(job)
                running[job.name] = job.seconds
        running = {name: seconds - 1 for name, seconds in running.items() if seconds > 1}
        now += 1
    return now


@pytest.mark.parametrize("seed", range(20))
def test_equals_a_simulation_second_by_second(seed: int) -> None:
    draw = random.Random(seed)
    poisons = [Job(f"p{number}", draw.randint(1, 20)) for number in range(4)]
    needs = [*(poison.name for poison in poisons), None]
    cells = [Job(f"c{number}", draw.randint(1, 9), draw.choice(needs)) for number in range(15)]
    workers = draw.randint(1, 6)
    assert seconds_until_done([*poisons, *cells], {}, workers) == second_by_second([*poisons, *cells], workers)


def test_a_few_jobs_are_ordered_so_that_no_worker_idles_at_the_end() -> None:
    # By hand: the longest first ends at 3 + 2 + 2; two workers can do 3 + 3 and 2 + 2 + 2.
    jobs = [Job("a", 3), Job("b", 3), Job("c", 2), Job("d", 2), Job("e", 2)]
    assert seconds_until_done(jobs, {}, 2) == 7
    assert seconds_until_done(soonest_done(jobs, 2), {}, 2) == 6
    assert soonest_done(jobs, 1) == jobs  # no order is better: it stays
    assert soonest_done([], 2) == []


@pytest.mark.parametrize("seed", range(10))
def test_another_order_is_never_slower_and_close_to_the_best_of_all(seed: int) -> None:
    draw = random.Random(seed)
    jobs = [
        Job("p", draw.randint(5, 12)),
        *(Job(str(name), draw.randint(2, 9), draw.choice(["p", None])) for name in range(5)),
    ]
    jobs.sort(key=lambda job: -job.seconds)
    found = soonest_done(jobs, 2)
    assert sorted(job.name for job in found) == sorted(job.name for job in jobs)
    seconds = seconds_until_done(found, {}, 2)
    assert seconds <= seconds_until_done(jobs, {}, 2)
    best = min(seconds_until_done(order, {}, 2) for order in itertools.permutations(jobs))
    assert best <= seconds <= 1.1 * best


def test_many_jobs_stay_in_their_order() -> None:
    jobs = [Job(str(number), 1 + number % 3) for number in range(1000)]
    assert soonest_done(jobs, 2) == jobs


def test_the_time_left_follows_what_tasks_take() -> None:
    now = [0.0]
    tasks = {name: Task("victim", np.full(10, 1.0)) for name in "abcd"}
    pace = Pace(tasks, 0.0, lambda: now[0])
    waiting = [(name, None) for name in "abcd"]
    assert pace.left(waiting, 2) is None  # costs are in no unit of time, and nothing has run
    pace.begins("a")
    pace.begins("b")
    now[0] = 5.0
    pace.reaches("a", 0.25)
    pace.reaches("b", 0.25)
    # 5 s for 2.5 units: 2 s a unit, 15 s left of each, then 20 s.
    assert pace.left(waiting[2:], 2) == pytest.approx(35)
    now[0] = 30.0
    pace.stops("a", done=True)
    pace.stops("b", done=False)  # its worker died
    pace.begins("b")
    pace.reaches("b", 0.5, resumed=True)
    # Tasks of a kind take 30 s; half of b is left, then one of the others follows it.
    assert pace.left(waiting[2:], 2) == pytest.approx(45)


def test_a_worker_knows_better_how_long_it_has_been_at_a_task() -> None:
    now = [100.0]
    pace = Pace({"a": Task("craft", np.full(10, 1.0))}, 0.0, lambda: now[0])
    pace.begins("a")
    pace.reaches("a", 0.5, seconds=30.0)
    assert pace.left([], 2) == pytest.approx(30)


def test_how_fast_a_poison_is_crafted_says_nothing_of_victims() -> None:
    now = [0.0]
    tasks = {"poison": Task("craft", np.full(4, 25.0), crafts=True)}
    tasks |= {name: Task(name, np.full(5, 10.0)) for name in "ab"}
    pace = Pace(tasks, 1.0, lambda: now[0])
    pace.begins("poison")
    now[0] = 50.0  # idle CPUs have helped
    pace.stops("poison", done=True)
    assert pace.left([("a", None), ("b", None)], 1) == pytest.approx(100)
    pace.begins("a")
    now[0] = 80.0
    pace.reaches("a", 0.5)
    # 30 s for 25 units: little is trusted.
    assert pace.left([("b", None)], 1) == pytest.approx(30 + 50 * 31 / 26, abs=0.5)
    steps = Pace(tasks, 0.0, lambda: now[0])
    steps.begins("poison")
    now[0] = 130.0
    steps.stops("poison", done=True)
    assert steps.left([("a", None)], 1) == pytest.approx(25)  # half a second for each unit, as far as anybody knows


def test_expected_seconds_count_before_anything_has_run() -> None:
    tasks = {"poison": Task("craft", np.full(5, 20.0), done=40.0), "cell": Task("train", np.full(2, 15.0))}
    assert Pace(tasks, 1.3).left([("poison", None), ("cell", "poison")], 8) == pytest.approx(60 + 30)


def test_a_task_of_no_cost_takes_what_another_of_its_kind_took() -> None:
    now = [0.0]
    tasks = {name: Task("words", np.zeros(0), crafts=True) for name in "ab"}
    pace = Pace(tasks | {"victim": Task("victim", np.full(2, 5.0))}, 1.0, lambda: now[0])
    pace.begins("a")
    now[0] = 3.0
    pace.stops("a", done=True)
    pace.begins("b")
    now[0] = 4.0
    assert pace.left([("victim", "b")], 2) == pytest.approx(2 + 10)

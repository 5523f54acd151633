"""When tasks on several workers are done: worked by hand, and by a plain simulation second by second."""

import itertools
import random

import pytest

from benchmark.core.schedule import Job, seconds_until_done, soonest_done


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

"""Time left by a clock that is set by hand: what was expected, corrected by what was seen."""

import numpy as np
import pytest

from benchmark.core.time_left import Pace, Task, TimeLeft


class Clock:
    """Reads what it is set to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def steps(*seconds: float) -> np.ndarray:
    return np.array(seconds)


def work(left: TimeLeft, clock: Clock, name: str, *seconds: float) -> None:
    """A task whose steps take so long."""
    with left.working(name, len(seconds)):
        for taken in seconds:
            clock.now += taken
            left.advance()


def test_before_anything_has_run_all_tasks_count_as_expected() -> None:
    tasks = {"poison": Task("craft", steps(30, 10)), "victim": Task("train", steps(5, 5)), "other": Task("new")}
    assert TimeLeft(tasks, trusted=1.0).left() == 50


def test_nothing_is_said_where_no_time_is_known() -> None:
    """Costs are then in passes of a model, and not in seconds."""
    clock = Clock()
    left = TimeLeft({name: Task("train", steps(10)) for name in "abc"}, clock=clock)
    left.done_elsewhere("a")
    assert left.left() is None
    work(left, clock, "b", 3)
    assert left.left() == pytest.approx(3 * 1 / 2)  # another run does as much


def test_a_machine_half_as_fast_doubles_what_is_left() -> None:
    clock = Clock()
    left = TimeLeft({name: Task(name, steps(10, 10)) for name in "abc"}, clock=clock)
    work(left, clock, "a", 20, 20)
    assert left.left() == pytest.approx(80)


def test_what_was_trusted_weakens_the_first_steps() -> None:
    clock = Clock()
    left = TimeLeft({"a": Task("a", steps(1)), "b": Task("b", steps(100))}, trusted=9, clock=clock)
    work(left, clock, "a", 11)
    assert left.left() == pytest.approx(100 * (11 + 9) / (1 + 9))


def test_a_task_of_a_kind_that_has_run_takes_what_that_took() -> None:
    clock = Clock()
    kinds = {"plain 1": "plain", "plain 2": "plain", "hard 1": "hard", "hard 2": "hard"}
    left = TimeLeft({name: Task(kind, steps(10)) for name, kind in kinds.items()}, clock=clock)
    work(left, clock, "plain 1", 10)
    assert left.left() == pytest.approx(30)
    work(left, clock, "hard 1", 40)
    assert left.left() == pytest.approx(10 + 40)
    work(left, clock, "plain 2", 10)
    assert left.left() == pytest.approx(40)


def test_the_task_at_work_counts_by_the_cost_of_its_steps_not_by_their_number() -> None:
    clock = Clock()
    left = TimeLeft({"adversarial": Task("a", steps(1, 1, 4, 4)), "next": Task("b", steps(10))}, clock=clock)
    with left.working("adversarial", 4):
        for _ in range(2):
            clock.now += 1
            left.advance()
        assert left.share_done() == pytest.approx(0.2)
        assert left.left_in_task() == pytest.approx(8)
        assert left.left() == pytest.approx(18)


def test_a_share_of_the_steps_becomes_a_share_of_their_cost() -> None:
    task = Task("craft", steps(1, 1, 0, 2))
    found = [task.share_after(share) for share in (0, 0.25, 0.5, 0.75, 0.875, 1)]
    assert found == pytest.approx([0, 0.25, 0.5, 0.5, 0.75, 1])
    assert Task("craft").share_after(0.3) == 0.3


def test_work_after_the_last_step_is_left_until_the_task_ends() -> None:
    clock = Clock()
    left = TimeLeft({"victim": Task("train", steps(2, 2, 6))}, clock=clock)
    with left.working("victim", 2):
        for _ in range(2):
            clock.now += 2
            left.advance()
        assert left.left() == pytest.approx(6)
        clock.now += 6
    assert left.left() == 0


def test_steps_of_a_killed_run_are_done_but_not_timed() -> None:
    clock = Clock()
    left = TimeLeft(
        {"a": Task("train", steps(1, 1, 1, 1, 1, 1, 1, 1, 1, 1), done=8.0), "b": Task("train", steps(*[1] * 10))},
        clock=clock,
    )
    assert left.left() is None
    with left.working("a", 10):
        left.resume(8)
        clock.now += 3
        left.advance()
        assert left.left_in_task() == pytest.approx(3)
        clock.now += 3
        left.advance()
    # The two steps took 6 s, so that ten take 30 s.
    assert left.left() == pytest.approx(30)


def test_another_run_that_does_as_much_halves_what_is_left() -> None:
    clock = Clock()
    left = TimeLeft({name: Task(name, steps(10)) for name in "abcdef"}, clock=clock)
    work(left, clock, "a", 10)
    left.done_elsewhere("b")
    left.done_elsewhere("b")  # counts once
    assert left.left() == pytest.approx(40 / 2)
    work(left, clock, "c", 10)
    assert left.left() == pytest.approx(30 * 20 / 30)


def test_a_task_of_unknown_cost_counts_once_one_of_its_kind_has_run() -> None:
    clock = Clock()
    tasks = {"plugin 1": Task("plugin"), "plugin 2": Task("plugin"), "victim": Task("train", steps(5))}
    left = TimeLeft(tasks, trusted=1.0, clock=clock)
    assert left.left() == 5
    with left.working("plugin 1", 4):
        clock.now += 3
        left.advance()
        assert left.left_in_task() == pytest.approx(9)
        clock.now += 9
    assert left.left() == pytest.approx(12 + 5)


def test_a_task_that_fails_or_is_dropped_is_no_longer_waited_for() -> None:
    clock = Clock()
    left = TimeLeft({name: Task("train", steps(10, 10)) for name in "abc"}, trusted=1.0, clock=clock)

    def fail() -> None:
        with left.working("a", 2):
            clock.now += 10
            left.advance()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert left.left() == pytest.approx(40)  # and not 2 × 10: half a training is no training
    left.drop("b")
    assert left.left() == pytest.approx(20)


def test_tasks_of_a_kind_are_expected_to_take_their_mean() -> None:
    clock = Clock()
    left = TimeLeft({name: Task("poison", steps(10)) for name in "abc"}, clock=clock)
    work(left, clock, "a", 10)
    work(left, clock, "b", 20)
    assert left.left() == pytest.approx(15)


def test_a_task_of_no_cost_takes_what_another_of_its_kind_took() -> None:
    clock = Clock()
    left = TimeLeft({name: Task("words", steps()) for name in "ab"}, trusted=1.0, clock=clock)
    with left.working("a", 0):
        clock.now += 3
    assert left.left() == pytest.approx(3)


def test_the_time_left_of_several_workers_follows_what_tasks_take() -> None:
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


def test_a_running_task_of_no_cost_takes_what_another_of_its_kind_took() -> None:
    now = [0.0]
    tasks = {name: Task("words", np.zeros(0), crafts=True) for name in "ab"}
    tasks |= {"victim": Task("victim", np.full(2, 5.0)), "poison": Task("craft", np.full(2, 5.0), crafts=True)}
    pace = Pace(tasks, 1.0, lambda: now[0])
    pace.begins("a")
    now[0] = 3.0
    pace.stops("a", done=True)
    pace.begins("b")
    now[0] = 4.0
    assert pace.left([("victim", "b")], 2) == pytest.approx(2 + 10)
    assert pace.left([("poison", None)], 2) == pytest.approx(10)  # of whose speed that says nothing


def test_a_running_task_of_unknown_cost_goes_on_as_it_went() -> None:
    now = [0.0]
    pace = Pace({"plug-in": Task("craft"), "victim": Task("train", np.ones(10))}, 1.0, lambda: now[0])
    pace.begins("plug-in")
    now[0] = 100.0
    pace.reaches("plug-in", 0.05)
    assert pace.left([], 2) == pytest.approx(1900)

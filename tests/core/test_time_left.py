"""Time left by a clock that is set by hand: what was expected, corrected by what was seen."""

import numpy as np
import pytest

from benchmark.core.time_left import SecondsSeen, Task, TimeLeft


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
    assert TimeLeft(tasks).left() == 50


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
    assert left.left() == 12
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
    left = TimeLeft(tasks, clock=clock)
    assert left.left() == 5
    with left.working("plugin 1", 4):
        clock.now += 3
        left.advance()
        assert left.left_in_task() == pytest.approx(9)
        clock.now += 9
    assert left.left() == pytest.approx(12 + 5)


def test_a_task_that_fails_or_is_dropped_is_no_longer_waited_for() -> None:
    clock = Clock()
    left = TimeLeft({name: Task("train", steps(10, 10)) for name in "abc"}, clock=clock)

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
    seen = SecondsSeen()
    for kind, seconds in (("poison", 10.0), ("victim", 3.0), ("poison", 20.0)):
        seen.add(kind, seconds)
    assert (seen.mean("poison"), seen.mean("victim"), seen.mean("other")) == (15.0, 3.0, None)


def test_a_task_of_no_cost_takes_what_another_of_its_kind_took() -> None:
    clock = Clock()
    left = TimeLeft({name: Task("words", steps()) for name in "ab"}, trusted=1.0, clock=clock)
    with left.working("a", 0):
        clock.now += 3
    assert left.left() == pytest.approx(3)

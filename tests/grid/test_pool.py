"""What a pool of workers does next, with workers that are threads and cells that are made up."""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmark.core.errors import Failure, UsageError
from benchmark.core.schedule import Job, seconds_until_done
from benchmark.core.time_left import Pace, Task
from benchmark.grid.board import Board
from benchmark.grid.engines import agenda
from benchmark.grid.engines import pool as pools
from benchmark.grid.engines.local import _fit
from benchmark.grid.engines.pool import Pool
from benchmark.grid.events import Events
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid
from benchmark.grid.settings import RunSettings
from benchmark.grid.units import Unit
from tests.watchdog import in_no_time

Answer = Callable[["Scripted", str, str], tuple[Any, ...] | None]


@dataclass
class Scripted:
    """A worker that answers every request by a function; ``None`` is its death."""

    number: int
    answer: Answer
    unit: Unit | None = None
    ready: bool = False
    idle: int = 0
    code: int = -9
    where: str = "somewhere"
    process: Any = field(init=False)
    told: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.link, self._theirs = Pipe()
        self.process = SimpleNamespace(wait=lambda: self.code, poll=lambda: None)
        self._theirs.send(("ready",))

    def open(self, settings: RunSettings, cells: bytes) -> None:
        """Nothing is to be opened."""

    def ask(self, kind: str, *rest: Any) -> None:
        if kind == "idle":
            self.told.append(rest[0])
            return

        def work() -> None:
            if (answer := self.answer(self, kind, rest[0])) is None:
                self._theirs.close()
            else:
                self._theirs.send(answer)

        threading.Thread(target=work, daemon=True).start()

    def says(self, answer: tuple[Any, ...]) -> None:
        self._theirs.send(answer)

    def end(self) -> None:
        self.link.close()


def unit(name: str, needs: str | None = None) -> Unit:
    cell = SimpleNamespace(title=lambda: name)
    unrun = SimpleNamespace(failed=lambda *failure: made(name, Failure(*failure)))
    planned = SimpleNamespace(cell=cell, key=name, record=None, planned_record=unrun)
    return Unit(name, cast(Any, planned), crafts=False, needs=needs)


@dataclass(frozen=True)
class Poison(Unit):
    @property
    def title(self) -> str:
        return self.name


def poison(name: str) -> Unit:
    return Poison(name, unit(name).planned, crafts=True)


def made(name: str, failure: Failure | None = None) -> Record:
    """A failed record, which needs no scores."""
    error = {"message": failure.message if failure else f"made {name}"}
    return cast(Record, SimpleNamespace(status="failed", error=error, failure=error["message"]))


def scripted_pool(monkeypatch: pytest.MonkeyPatch, workers: int, answer: Answer, cpus: int = 9) -> Pool:
    monkeypatch.setattr(pools, "Worker", lambda number, *_: Scripted(number, answer))
    monkeypatch.setattr(pools, "_SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(pools, "usable_cpus", lambda: cpus)
    grid = SimpleNamespace(poisons=SimpleNamespace(folder=Path()), cells=[])
    pool = Pool(cast(Grid, grid), RunSettings(), 1)
    pool.resize(workers)
    return pool


def do(
    monkeypatch: pytest.MonkeyPatch, units: list[Unit], workers: int, answer: Answer, cpus: int = 9
) -> dict[str, str]:
    """What the records of cells say."""
    monkeypatch.setattr(agenda, "settle", lambda grid, planned, record: record)
    pool = scripted_pool(monkeypatch, workers, answer, cpus)
    records = pool.run(units, Board(units, Pace({}), Events()))
    return {name: record.error["message"] for name, record in records.items()}


def test_a_board_orders_units_by_what_they_are_expected_to_take() -> None:
    # On two workers the longest first takes 7; the orders that take 6 do a and b after each other.
    costs = {"a": 3.0, "b": 3.0, "c": 2.0, "d": 2.0, "e": 2.0}
    units = [unit(name) for name in costs]
    tasks = {name: Task("victim", np.array([cost])) for name, cost in costs.items()}
    board = Board(units, Pace(tasks), Events())
    names = [one.name for one in board.order_for(2)]
    assert sorted(names) == list(costs)
    assert seconds_until_done([Job(name, costs[name]) for name in names], {}, 2) == 6
    assert list(board.units) == names
    assert board.order_for(1) == list(board.units.values())


def test_a_log_tells_what_runs_or_that_nothing_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("benchmark.grid.board._SECONDS_BETWEEN_LINES", 0.0)
    units = [unit(str(number)) for number in range(13)]
    board = Board(units, Pace({}), Events())
    with caplog.at_level("INFO", "benchmark.grid.board"):
        board.tick()
        board.begins(units[0], "here")
        board.tick()
        for one in units[1:]:
            board.begins(one, "there")
        board.tick()
    several = [f"{number}: 0 % (there)" for number in range(1, 10)]
    assert caplog.messages == [
        "nothing runs at present",
        "0: 0 % (here)",
        "; ".join(["0: 0 % (here)", *several, "and 3 more"]),
    ]


def test_the_table_is_drawn_by_ticks_alone_and_not_by_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    board, threads = Board([unit("one")], Pace({}), Events()), set(threading.enumerate())
    with board.shown():
        board.begins(unit("one"), "here")
        drawn = []
        for now[0] in (101.0, 101.1, 102.0):
            capsys.readouterr()
            board.tick()
            drawn.append("here" in capsys.readouterr().err)
        assert drawn == [True, False, True]
        assert set(threading.enumerate()) <= threads  # another would read what changes meanwhile


def test_poisons_come_first_and_cells_wait_for_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    crafted = threading.Event()

    def answer(_: Scripted, kind: str, key: str) -> tuple[Any, ...]:
        order.append(key)
        if key == "p":
            assert crafted.wait(10)
        if key == "clean":
            crafted.set()
        return ("crafted", None) if kind == "craft" else ("trained", made(key))

    units = [poison("p"), unit("protected", "p"), unit("clean")]
    assert do(monkeypatch, units, 2, answer) == {"protected": "made protected", "clean": "made clean"}
    assert sorted(order[:2]) == ["clean", "p"]
    assert order[2:] == ["protected"]


def test_who_crafts_may_use_the_cpus_of_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, crafting = threading.Event(), list[Scripted]()

    def answer(worker: Scripted, kind: str, key: str) -> tuple[Any, ...]:
        if kind == "train":
            trained.set()
            return ("trained", made(key))
        crafting.append(worker)
        trained.wait(10)
        deadline = time.monotonic() + 10
        while worker.told[-1:] != [2] and time.monotonic() < deadline:
            time.sleep(0.01)
        return ("crafted", None)

    assert len(do(monkeypatch, [poison("p"), unit("clean"), unit("protected", "p")], 3, answer)) == 2
    # One of the three trained at first.
    assert crafting[0].told in ([1, 2], [2])


def told_in_time(worker: Scripted, *wanted: list[int]) -> list[int]:
    """What a worker has been told last, once that is as wanted, or after a while."""
    deadline = time.monotonic() + 10
    while worker.told[-1:] not in wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    return worker.told[-1:]


def test_who_trains_may_use_them_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def answer(worker: Scripted, kind: str, key: str) -> tuple[Any, ...]:
        if key == "long":  # one of three workers has nothing to do, then two have
            told.append(told_in_time(worker, [2]))
        return ("trained", made(key))

    do(monkeypatch, [unit("short"), unit("long")], 3, answer)
    assert told == [[2]]


def test_no_more_are_idle_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four workers share two CPUs: while one trains, a single CPU is idle."""
    told = []

    def answer(worker: Scripted, kind: str, key: str) -> tuple[Any, ...]:
        if key == "long":
            told.append(told_in_time(worker, [1]))
            time.sleep(0.1)
            told.append(worker.told)
        return ("trained", made(key))

    do(monkeypatch, [unit("short"), unit("long")], 4, answer, cpus=2)
    assert told == [[1], [1]]


def test_who_crafts_has_them_first_and_only_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    told, together = dict[str, list[int]](), threading.Barrier(3)

    def answer(worker: Scripted, kind: str, key: str) -> tuple[Any, ...]:
        if key == "p":
            told[key] = told_in_time(worker, [1])
            return ("crafted", None)
        if key == "beside":
            while "p" not in told:
                time.sleep(0.01)
            told[key] = worker.told[-1:]
        else:
            together.wait(10)  # all train
            told[key] = told_in_time(worker, [], [0])
            together.wait(10)
        return ("trained", made(key))

    do(monkeypatch, [poison("p"), unit("beside"), *(unit(name, "p") for name in "qrs")], 3, answer)
    assert told["p"] == [1]
    assert told["beside"] == []
    assert sorted(told[name] for name in "qrs") == [[], [], [0]]


def test_who_has_crafted_leaves_them_to_who_crafts_still(monkeypatch: pytest.MonkeyPatch) -> None:
    told, trained = list[list[int]](), threading.Event()

    def answer(worker: Scripted, kind: str, key: str) -> tuple[Any, ...]:
        if key == "long":
            trained.wait(20)
        if key == "short":
            told.append(told_in_time(worker, [1]))
        if key == "of short":
            told.append(told_in_time(worker, [0]))
            trained.set()
        return ("crafted", None) if kind == "craft" else ("trained", made(key))

    units = [poison("long"), poison("short"), unit("of short", "short"), unit("of long", "long")]
    do(monkeypatch, units, 3, answer)
    assert told == [[1], [0]]


def test_poisons_begin_while_this_process_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agenda, "settle", lambda grid, planned, record: record)
    begun, dies = queue.Queue[tuple[int, str]](), {"q"}

    def answer(worker: Scripted, kind: str, key: str) -> tuple[Any, ...] | None:
        begun.put((worker.number, key))
        if key in dies:
            dies.remove(key)
            return None
        worker.says(("share", 0.5, False, 0.01))
        return ("crafted", None) if kind == "craft" else ("trained", made(key))

    names = ["p", "q", "r"]
    units = [*map(poison, names), *(unit(f"of {name}", name) for name in names)]
    pool = scripted_pool(monkeypatch, 3, answer)
    pool.begin(units)
    # The first worker waits.
    assert sorted(begun.get(timeout=10) for _ in range(2)) == [(2, "p"), (3, "q")]
    tasks = {one.name: Task("any", np.ones(4)) for one in units}
    board = Board(units, Pace(tasks), Events())
    records = pool.run(board.order_for(3), board)
    assert sorted(records) == ["of p", "of q", "of r"]
    assert sorted(begun.get(timeout=10)[1] for _ in range(5)) == ["of p", "of q", "of r", "q", "r"]


def test_no_work_begins_before_all_workers_have_opened_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process times meanwhile must not share a CPU with that."""
    ready = queue.Queue[list[bool]]()

    def answer(worker: Scripted, kind: str, key: str) -> tuple[Any, ...] | None:
        ready.put([one.ready for one in pool._workers])
        return ("crafted", None)

    pool = scripted_pool(monkeypatch, 3, answer)
    pool.begin([poison("p"), poison("q")])
    assert [ready.get(timeout=10) for _ in range(2)] == [[True] * 3] * 2


class Stillborn(Scripted):
    """A worker that dies before it is ready, whatever it is asked."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.link, theirs = Pipe()
        theirs.close()

    def ask(self, kind: str, *rest: Any) -> None:
        """Nobody hears it."""


def test_a_worker_that_dies_while_it_starts_is_replaced_before_work_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agenda, "settle", lambda grid, planned, record: record)
    crafted: list[str] = []

    def answer(worker: Scripted, kind: str, key: str) -> tuple[Any, ...] | None:
        if kind == "train":
            return ("trained", made(key))
        crafted.append(key)
        return None if len(crafted) < 3 else ("crafted", None)

    pool = scripted_pool(monkeypatch, 1, answer)
    monkeypatch.setattr(pools, "Worker", lambda number, *_: Stillborn(number, lambda *_: ("crafted", None)))
    pool.resize(2)
    monkeypatch.setattr(pools, "Worker", lambda number, *_: Scripted(number, answer))
    units = [poison("p"), unit("of p", "p")]
    pool.begin(units)
    records = pool.run(units, Board(units, Pace({}), Events()))
    assert {name: record.error["message"] for name, record in records.items()} == {"of p": "made of p"}
    assert crafted == ["p"] * 3


@pytest.mark.parametrize(
    ("code", "workers", "how"),
    [
        (-9, 2, "was ended by signal 9, like the 2 before it; memory may be short, and fewer --jobs need less"),
        (-9, 1, "was ended by signal 9, like the 2 before it; memory may be short"),
        (-11, 2, "was ended by signal 11, like the 2 before it"),
        (1, 2, "ended with exit code 1, like the 2 before it"),
    ],
)
def test_a_unit_whose_worker_dies_runs_again_and_at_most_three_times(
    code: int, workers: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def answer(worker: Scripted, kind: str, key: str) -> tuple[Any, ...] | None:
        tried.append(key)
        worker.code = code
        if key == "deadly" or (key == "once" and tried.count("once") == 1):
            return None
        return ("trained", made(key))

    said = do(monkeypatch, [unit("deadly"), unit("once"), unit("well")], workers, answer)
    assert said == {"deadly": f"its worker {how}", "once": "made once", "well": "made well"}
    assert tried.count("deadly") == 3
    assert tried.count("once") == 2


def test_the_death_of_a_worker_is_seen_though_others_hold_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """As processes do that a plugin has started in it."""
    gone: list[Scripted] = []

    def answer(worker: Scripted, kind: str, key: str) -> tuple[Any, ...]:
        if key == "deadly" and not gone:
            gone.append(worker)
            worker.process.poll = lambda: -9
            threading.Event().wait()
        return ("trained", made(key))

    with in_no_time():
        said = do(monkeypatch, [unit("deadly"), unit("well")], 2, answer)
    assert said == {name: f"made {name}" for name in ("deadly", "well")}


def test_a_poison_that_cannot_be_crafted_fails_its_cells_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(_: Scripted, kind: str, key: str) -> tuple[Any, ...]:
        asked.append(key)
        return ("crafted", Failure("E", "no such poison", "")) if kind == "craft" else ("trained", made(key))

    units = [poison("p"), unit("one", "p"), unit("two", "p"), unit("clean")]
    expected = {"one": "no such poison", "two": "no such poison", "clean": "made clean"}
    assert do(monkeypatch, units, 1, answer) == expected
    assert asked == ["p", "clean"]


def test_what_another_run_is_at_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(_: Scripted, kind: str, key: str) -> tuple[Any, ...]:
        asked.append(key)
        return ("busy",) if asked.count(key) == 1 and key == "theirs" else ("trained", made(key))

    assert set(do(monkeypatch, [unit("theirs"), unit("one"), unit("two")], 1, answer)) == {"theirs", "one", "two"}
    assert asked == ["theirs", "one", "theirs", "two"] or asked == ["theirs", "one", "two", "theirs"]


def test_workers_that_were_started_early_come_first_and_those_too_many_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(worker: Scripted, *_: str) -> tuple[Any, ...]:
        return ("trained", made(worker.where))

    early = [Scripted(number, answer, where=f"early {number}") for number in (1, 2, 3)]
    monkeypatch.setattr(agenda, "settle", lambda grid, planned, record: record)
    monkeypatch.setattr(pools, "Worker", lambda number, *_: Scripted(number, answer, where="late"))
    grid = SimpleNamespace(poisons=SimpleNamespace(folder=Path()), cells=[])
    pool = Pool(cast(Grid, grid), RunSettings(), 1, early=cast(Any, early))
    pool.resize(2)
    assert [one.link.closed for one in early] == [False, False, True]
    units = [unit("one"), unit("two")]
    found = {record.error["message"] for record in pool.run(units, Board(units, Pace({}), Events())).values()}
    assert found == {"made early 1", "made early 2"}
    pool.resize(3)
    assert len(pool) == 3
    pool.close()
    assert all(one.link.closed for one in early)


def test_bad_input_of_a_worker_is_that_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="disk is full"):
        do(monkeypatch, [unit("one")], 1, lambda *_: ("refused", "the disk is full"))


def test_workers_that_never_begin_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead(Scripted):
        def __post_init__(self) -> None:
            super().__post_init__()
            self._theirs.close()
            self.link.recv()  # it was never ready

    with monkeypatch.context() as patch:
        patch.setattr(pools, "Worker", lambda number, *_: Dead(number, lambda *_: None, code=3))
        grid = SimpleNamespace(poisons=SimpleNamespace(folder=Path()), cells=[])
        pool = Pool(cast(Grid, grid), RunSettings(), 1)
        pool.resize(1)
        with pytest.raises(UsageError, match="ended with exit code 3 before it did anything"):
            pool.run([unit("one")], Board([unit("one")], Pace({}), Events()))


def test_workers_that_never_begin_do_not_end_one_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agenda, "settle", lambda grid, planned, record: record)
    all_born = threading.Event()
    born: list[Stillborn] = []

    def answer(_: Scripted, kind: str, key: str) -> tuple[Any, ...]:
        assert all_born.wait(10)
        return ("trained", made(key))

    def start(number: int, *_: Any) -> Scripted:
        if number == 1:
            return Scripted(number, answer)
        born.append(Stillborn(number, answer))
        if len(born) == 3:
            all_born.set()
        return born[-1]

    pool = scripted_pool(monkeypatch, 0, answer)
    monkeypatch.setattr(pools, "Worker", start)
    pool.resize(2)
    units = [unit("one"), unit("two"), unit("three")]
    board = Board(units, Pace({}), Events())
    assert set(pool.run(units, board)) == {"one", "two", "three"}
    assert len(pool) == board.workers == 1


@pytest.mark.parametrize(
    ("speeds", "most", "expected"),
    [
        ({1: 10.0, 2: 10.5}, 2, 1),  # two threads of one core
        ({1: 10.0, 2: 19.0, 4: 30.0, 6: 31.0}, 6, 4),
        ({1: 10.0, 2: 20.0, 3: 30.0}, 3, 3),
        ({1: 0.0, 2: 0.0}, 2, 1),  # not even one could be timed
    ],
)
def test_more_workers_are_kept_while_the_whole_gets_faster(speeds: dict[int, float], most: int, expected: int) -> None:
    sizes: list[int] = []
    fake = SimpleNamespace(resize=sizes.append, steps_per_second=lambda _: speeds[sizes[-1]])
    _fit(cast(Pool, fake), most, measured=True)
    assert sizes[-1] == expected


def test_workers_that_do_not_survive_being_timed_are_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second worker has no memory left; nobody waits for its answer, and the first works on alone."""
    pool = scripted_pool(monkeypatch, 1, lambda worker, *_: ("speed", 5.0) if worker.number == 1 else None)
    assert pool.steps_per_second(1.0) == 5.0
    pool.resize(2)
    assert pool.steps_per_second(1.0) == 0.0
    _fit(pool, most=2, measured=True)
    assert len(pool) == 1

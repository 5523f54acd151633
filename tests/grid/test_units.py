"""What workers share, in which order; and what one process tells of its cells."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmark.core.time_left import Pace, Task
from benchmark.grid.choices import choose_defenses
from benchmark.grid.engines import worker
from benchmark.grid.engines.worker import Messages, Told
from benchmark.grid.estimate import estimate
from benchmark.grid.opening import open_grid
from benchmark.grid.presets import PRESETS
from benchmark.grid.settings import RunSettings
from benchmark.grid.units import longest_first, units_of
from tests.grid.grids import ATTACK, SCENES, run


def test_poisons_come_before_victims_and_the_longest_first(tmp_path: Path) -> None:
    settings = RunSettings(
        attack=f"uniform-noise,{ATTACK},{ATTACK.replace('mem', 'delta-only')}",
        defense="none,cutout",
        dataset=SCENES,
        out=tmp_path,
        epochs=1,
        batch_size=16,
        device="cpu",
        precision="fp32",
        poisons=str(tmp_path / "poisons"),
        victim="mini",
        surrogate="mini",
    )
    with open_grid(settings) as grid:
        planned = grid.plan()
        plain = units_of(planned, "missing")
        noise, mem = (unit.name for unit in plain if unit.crafts)
        assert [unit.needs for unit in plain if not unit.crafts] == [None, noise, noise, mem, mem, mem, mem]
        slowest = planned[2].key
        costs = {noise: 1.0, mem: 5.0, slowest: 3.0, planned[0].key: 2.0}
        tasks = {name: Task(name, np.array([cost])) for name, cost in costs.items()}
        order = [unit.name for unit in longest_first(plain, tasks)]
        rest = [one.key for one in planned if one.key not in costs]
        assert order == [mem, noise, slowest, planned[0].key, *rest]
        (tmp_path / "poisons").mkdir()
        Path(mem).touch()
        there = units_of(planned, "missing")
        assert [unit.name for unit in there if unit.crafts] == [noise]
        assert [unit.needs for unit in there if not unit.crafts] == [None, noise, noise, None, None, None, None]


def test_where_no_time_is_known_the_defense_of_most_passes_begins(tmp_path: Path) -> None:
    defenses = ["none", "cutout", "cleanclip", "adv-training[steps=2]", "cutout+adv-training[steps=3]", "opposite-step"]
    settings = RunSettings(
        attack="clean", defense=",".join(defenses), dataset=SCENES, out=tmp_path, epochs=1, batch_size=16, device="cpu"
    )
    with open_grid(settings) as grid:
        planned = grid.plan()
        expected = estimate(grid, planned, "missing", measure=False)
        for tasks in ({}, expected.time_left.waiting):
            order = longest_first(units_of(planned, "missing"), tasks)
            assert [unit.planned.cell.defense.choice.spec for unit in order] == [
                "cutout+adv-training[steps=3]", "adv-training[steps=2]", "cleanclip", "opposite-step", "none", "cutout",
            ]  # fmt: skip
        # A record tells the time of a plain victim; one of unknown time is as long as its passes.
        plain = planned[0]
        seconds = {"craft": 0.0, "train": 8.0, "evaluate": 2.0}
        known = replace(plain.planned_record, status="done", seconds=seconds)
        told = estimate(grid, planned, "missing", known=[known], measure=False).time_left.waiting
        costs = [told[one.key].cost for one in planned]
        assert costs == pytest.approx([10, 10, 20, 30, 40, 20])


def test_one_process_tells_of_its_cells_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = tmp_path / "events"
    assert run(tmp_path / "out", "--events", str(events), attack="clean", defense="cutout", epochs=1) == 0
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert [(one["event"], one.get("state")) for one in told] == [
        ("plan", None),
        ("cell", "running"),
        ("cell", "done"),
        ("cell", "running"),
        ("cell", "done"),
    ]
    assert told[0]["cells"] == 2
    assert 0 <= told[2]["recall_at_10"] <= 100
    assert told[1]["title"] == told[2]["title"] != told[3]["title"]
    # Done already: nothing to tell but that.
    assert run(tmp_path / "out", "--events", str(events), attack="clean", defense="cutout", epochs=1) == 0
    assert [json.loads(line)["cells"] for line in events.read_text().splitlines()[5:]] == [0]


@pytest.mark.parametrize(
    ("spec", "passes"),
    [("jpeg", 1), ("adv-training[steps=10]", 11), ("opposite-step[steps=4]", 5), ("ueraser[draws=9]", 4),
     ("ueraser-lite", 1), ("cleanclip", 2), ("opposite-step[steps=4]+cleanclip", 6)],
)  # fmt: skip
def test_passes_follow_from_a_defenses_steps(spec: str, passes: int) -> None:
    assert choose_defenses(spec, PRESETS["tiny"])[-1].defense.passes == passes


def test_a_worker_tells_how_far_it_is_and_since_when(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: now))
    sent: list[tuple[Any, ...]] = []
    told = Told({"mine": Task("craft", np.array([1.0, 3.0]))}, "mine", sent.append)
    with told.working("other", 1):
        told.advance()
    assert not sent
    with told.working("mine", 2):
        now = 103.0
        told.advance()
        now = 103.25
        told.advance()  # too soon after the last
        now = 105.0
    assert sent == [("share", 0.25, False, 3.0), ("share", 1.0, False, 5.0)]


def test_what_another_run_has_done_says_nothing_of_the_speed() -> None:
    sent: list[tuple[Any, ...]] = []
    tasks = {name: Task("victim", np.array([60.0])) for name in ("theirs", "ours")}
    told, pace = Told(tasks, "theirs", sent.append), Pace(tasks, trusted=1.0, clock=lambda: 0.0)
    told.done_elsewhere("ours")
    assert not sent
    told.done_elsewhere("theirs")
    ((_, share, resumed, seconds),) = sent
    pace.begins("theirs")
    pace.reaches("theirs", share, resumed=resumed, seconds=seconds)
    pace.stops("theirs", done=True)
    assert pace.left([("ours", None)], 1) == 60


def test_a_workers_tracebacks_are_told() -> None:
    sent: list[tuple[Any, ...]] = []
    logger = logging.Logger("a worker's")
    logger.addHandler(Messages(sent.append))
    try:
        raise ValueError("no such word")
    except ValueError as error:
        logger.debug("the cell failed here", exc_info=error)
    assert sent[0] == ("message", logging.DEBUG, "the cell failed here")
    assert sent[-1] == ("message", logging.DEBUG, "ValueError: no such word")
    assert not any("\n" in text for _, _, text in sent)

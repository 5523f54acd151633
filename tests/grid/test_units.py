"""What workers share, in which order; and what one process tells of its cells."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.core.time_left import Task
from benchmark.grid.engines.worker import Told
from benchmark.grid.opening import open_grid
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


def test_a_worker_tells_how_far_it_is_and_since_when() -> None:
    sent: list[tuple[Any, ...]] = []
    told = Told({"mine": Task("craft", np.array([1.0, 3.0]))}, "mine", sent.append)
    with told.working("other", 1):
        told.advance()
    assert not sent
    with told.working("mine", 2):
        told.advance()
        time.sleep(0.05)
        told.advance()
    assert [answer[:3] for answer in sent] == [("share", 0.25, False), ("share", 1.0, False)]
    assert 0 <= sent[0][3] < 0.05 <= sent[1][3] < 5

"""A real Ray cluster of two nodes that share no folder: the records of one process, whatever dies.

Set up on a fresh machine by ``tests/tools/ray_tests.sh``.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.grid.records import load_records
from tests.grid.grids import ATTACK, left_over, results, run

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
PLUGIN = Path(__file__).with_name("mini_plugin.py")
GRID: dict[str, Any] = {"attack": f"clean,{ATTACK},uniform-noise", "defense": "cutout,random-swap,prefix-drop"}


def start(out: Path, *extra: str, **grid: Any) -> "subprocess.Popen[bytes]":
    """A run in a process of its own, of one thread."""
    words = ["--plugin", str(PLUGIN), *extra]
    code = f"from tests.grid.grids import run; raise SystemExit(run(Path({str(out)!r}), *{words!r}, **{grid!r}))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", f"from pathlib import Path; {code}"], cwd=ROOT, env=environment)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process without Ray makes of the grid."""
    out = tmp_path_factory.mktemp("one")
    assert start(out, **GRID).wait() == 0
    return results(out)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The head and another node, with one CPU and a cache each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = cluster_utils.Cluster()
    for name in ("head", "other"):
        cache = {"UNLEARNABLE_BENCH_CACHE": str(tmp_path / name)}
        made.add_node(num_cpus=1, env_vars=cache, include_dashboard=False)
    yield made
    made.shutdown()


def told(file: Path, event: str, state: str) -> list[dict[str, Any]]:
    """The events of a kind that a run has told so far."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [one for one in map(json.loads, lines) if one["event"] == event and one["state"] == state]


def records_of(content: dict[str, Any]) -> dict[str, Any]:
    return {name: record for name, record in content.items() if name.endswith(".json")}


def test_two_nodes_make_what_one_process_makes(cluster: Any, expected: dict[str, Any], tmp_path: Path) -> None:
    out, events = tmp_path / "out", tmp_path / "events"
    assert start(out, "--on", f"ray[address={cluster.address}]", "--events", str(events), **GRID).wait() == 0
    records = load_records(out)
    assert len(records) == 12
    assert results(out) == expected
    assert not left_over(out)
    assert {record.provenance["threads"] for record in records} == {1}
    # Both nodes worked, each in its own cache, and left nothing there; each poison was crafted once for both.
    assert len({one["where"] for one in told(events, "cell", "running")}) >= 2
    assert [list((tmp_path / name / "ray").iterdir()) for name in ("head", "other")] == [[], []]
    crafted = [one["title"] for one in told(events, "poison", "done")]
    assert len(crafted) == len(set(crafted)) == 2


@pytest.mark.parametrize("keeps", ["in the store", "nowhere"])
@pytest.mark.parametrize(
    ("victim", "by"), [("node", signal.SIGKILL), ("driver", signal.SIGKILL), ("driver", signal.SIGTERM)]
)
def test_what_is_killed_in_the_middle_loses_nothing(
    victim: str, by: signal.Signals, keeps: str, cluster: Any, expected: dict[str, Any], tmp_path: Path
) -> None:
    """Without a store a poison that was on the dead node alone is crafted again, and cells begin anew."""
    out, events, store = tmp_path / "out", tmp_path / "events", tmp_path / "store"
    flags = ["--on", f"ray[address={cluster.address}]", "--events", str(events)]
    flags += ["--store", f"file://{store}"] if keeps == "in the store" else []
    driver = start(out, *flags, **GRID)
    while len(told(events, "cell", "done")) < 3:
        assert driver.poll() is None
        time.sleep(0.05)
    begun = {one["name"] for one in told(events, "cell", "running")}
    done = {one["name"] for one in told(events, "cell", "done")}
    if victim == "node":
        (other,) = cluster.worker_nodes
        cluster.remove_node(other, allow_graceful=False)
    else:
        driver.send_signal(by)
        assert driver.wait() == -by
        driver = start(out, *flags, **GRID)
    assert driver.wait() == 0
    assert records_of(results(out)) == records_of(expected)
    assert not [path for path in store.glob("*") if "checkpoint" in path.name]
    if victim == "driver":
        # What ran when the driver died went on, and did not begin again.
        where = {(one["name"], one["where"]) for one in told(events, "cell", "running")}
        assert all(sum(name == other for other, _ in where) == 1 for name in begun - done)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_task_that_ends_its_process_goes_on_from_the_store(by: signal.Signals, cluster: Any, tmp_path: Path) -> None:
    note = tmp_path / "note"
    grid = {"attack": "clean", "defense": f"fragile[note={note},wait=5,by={by.value}]"}
    flags = ["--on", f"ray[address={cluster.address}]", "--store", f"file://{tmp_path}/store"]
    assert start(tmp_path / "out", *flags, **grid).wait() == 0
    assert len(note.read_text().splitlines()) == 4  # the third epoch began twice
    note.write_text("no kill\n" * 9)
    assert start(tmp_path / "one", **grid).wait() == 0
    assert records_of(results(tmp_path / "out")) == results(tmp_path / "one")


def test_a_task_that_the_store_fails_runs_again(cluster: Any, tmp_path: Path) -> None:
    store = tmp_path / "store"
    flags = ["--on", f"ray[address={cluster.address}]", "--store", f"file://{store}"]
    assert start(tmp_path / "out", *flags, attack="unkept", defense="none").wait() == 0
    assert {record.status for record in load_records(tmp_path / "out")} == {"done"}
    assert [path.suffix for path in store.iterdir()] == [".safetensors"]


def test_a_cell_that_may_have_failed_for_its_node_runs_on_another(cluster: Any, tmp_path: Path) -> None:
    note = tmp_path / "note"
    flags = ["--on", f"ray[address={cluster.address}]", "--store", f"file://{tmp_path}/store"]
    assert start(tmp_path / "out", *flags, attack="clean", defense=f"starved[note={note}]").wait() == 0
    assert {record.status for record in load_records(tmp_path / "out")} == {"done"}
    assert note.exists()


def test_without_a_cluster_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "out", "--on", "ray[address=127.0.0.1:1]", attack="clean", defense="none") == 2
    assert "no Ray cluster at '127.0.0.1:1'" in capsys.readouterr().err.splitlines()[-1]

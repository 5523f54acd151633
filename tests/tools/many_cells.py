"""What a grid of thousands of cells costs beside its cells: ``python -m tests.tools.many_cells --cells 10000``.

Plans a grid of no-op cells (:mod:`tests.tools.no_op`), and runs it on a Ray cluster of two nodes of one CPU each, which
it starts on this machine. Prints, as JSON, the CPU time of planning, and, as cells end, the CPU time and the memory of
the process that runs the command, and the memory of the owner of Ray's tasks. CPU time counts all threads of a process,
those of Ray included, so that other work on the machine changes it little.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmark.cli.main import main as command_line
from benchmark.grid.board import Board
from benchmark.grid.provenance import device_name, git_commit
from defenses import DEFENSES
from tests.memory import memory

PLUGIN = Path(__file__).with_name("no_op.py")
_SAMPLES = 20
_MARK = "MANY_CELLS"
_STORE = 200 * 2**20  # bytes of a node's object store
_DATA = "scenes[train=64,val=8,test=16,objects=30,seed=0]"


def flags(cells: int, out: Path) -> list[str]:
    """``run`` and its flags for at least so many cells: clean data and a no-op attack, every defense, many seeds."""
    a_seed = 2 * len(DEFENSES.group("all"))
    grid = {"--preset": "micro", "--dataset": _DATA, "--attack": "clean,no-op", "--defense": "all"}
    grid |= {"--seeds": str(-(-cells // a_seed)), "--device": "cpu", "--plugin": str(PLUGIN)}
    grid |= {"--out": str(out), "--poisons": str(out / "poisons"), "--cache": str(out.parent / "cache")}
    return ["run", *(word for pair in grid.items() for word in pair)]


def resident(process: int | str = "self") -> float:
    """Resident memory of a process, in MiB; 0 if it is gone."""
    try:
        return memory("VmRSS", process) / 2**20
    except OSError:
        return 0.0


def owner() -> str | None:
    """The process of the owner of the run's tasks, among those that this measurement has started."""
    mark = f"{_MARK}={os.environ[_MARK]}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_owner = (folder / "cmdline").read_bytes().startswith(b"ray::Owner")
            if is_owner and mark in (folder / "environ").read_bytes().split(b"\0"):
                return folder.name
        except OSError:
            continue
    return None


@contextmanager
def watched(cells: int) -> Iterator[list[dict[str, float]]]:
    """CPU seconds and memory after every twentieth of the cells, while the block runs."""
    samples: list[dict[str, float]] = []
    ends, found = Board.ends, list[str]()

    def counted(board: Board, unit: Any, *rest: Any, **named: Any) -> None:
        ends(board, unit, *rest, **named)
        done = board._ended
        if not unit.crafts and (done % max(1, cells // _SAMPLES) == 0 or done == board.cells):
            found.extend([process] if not found and (process := owner()) else [])
            samples.append(
                {
                    "cells": done,
                    "cpu_seconds": round(time.process_time(), 2),
                    "rss_mib": round(resident(), 1),
                    "owner_rss_mib": round(resident(found[0]), 1) if found else 0.0,
                }
            )

    with patch.object(Board, "ends", counted):
        yield samples


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """The address of a Ray cluster of two nodes of one CPU, each with a cache of its own, while the block runs."""
    from ray.cluster_utils import Cluster

    made = Cluster()
    try:
        for name in ("head", "other"):
            cache = {"UNLEARNABLE_BENCH_CACHE": str(folder / name)}
            made.add_node(num_cpus=1, env_vars=cache, include_dashboard=False, object_store_memory=_STORE)
        yield made.address
    finally:
        made.shutdown()


def measured(cells: int) -> dict[str, Any]:
    """Plan and run the grid; what both took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = flags(cells, folder / "out")
        command_line([*flags(1, folder / "first"), "--dry-run"])  # prepares the data
        start, wall = time.process_time(), time.monotonic()
        # For Ray no steps are timed before the run; for this machine that takes some seconds more, at most 20.
        assert command_line([*run, "--on", "ray", "--dry-run"]) == 0
        planning = {
            "cpu_seconds": round(time.process_time() - start, 2),
            "wall_seconds": round(time.monotonic() - wall, 2),
            "rss_mib": round(resident(), 1),
        }
        with cluster(folder) as address, watched(cells) as samples:
            start, wall = time.process_time(), time.monotonic()
            assert command_line([*run, "--on", f"ray[address={address}]"]) == 0
            cpu, wall = time.process_time() - start, time.monotonic() - wall
        done = int(samples[-1]["cells"])
        steady = [one for one in samples if one["cells"] >= done / 5]
        running = (steady[-1]["cpu_seconds"] - steady[0]["cpu_seconds"]) / (steady[-1]["cells"] - steady[0]["cells"])
        return {
            "what": "no-op cells: planning, and a run on a Ray cluster of two local nodes of one CPU",
            "command": f"python -m tests.tools.many_cells {' '.join(sys.argv[1:])}",
            "commit": git_commit(),
            "machine": device_name(torch.device("cpu")),
            "versions": {
                "python": platform.python_version(),
                **{package: metadata.version(package) for package in ("ray", "torch", "numpy")},
            },
            "cells": done,
            "poisons": done // (2 * len(DEFENSES.group("all"))),
            "planning": planning,
            "driver": {
                "cpu_seconds": round(cpu, 2),
                "cpu_ms_per_cell": round(1000 * cpu / done, 2),
                "cpu_ms_per_cell_while_running": round(1000 * running, 2),
                "wall_seconds": round(wall, 1),
            },
            "samples": samples,
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000, help="at least so many; default: 10000")
    os.environ[_MARK] = str(os.getpid())
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray would make its tasks less urgent than the command. The name is Ray's.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    with redirect_stdout(sys.stderr):  # the table of the run
        found = measured(parser.parse_args().cells)
    print(json.dumps(found, indent=1))

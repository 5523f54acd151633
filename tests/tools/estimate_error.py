"""How true the time left is: a real run's estimates beside the time that the rest of it took.

``python -m tests.tools.estimate_error --preset micro --attack clean,em,mem3 --defense none,cutout`` takes the flags of
``run`` and runs them in an empty folder. With ``--cpu`` it counts the CPU time of the process instead of the time of
day, for a machine that has other work to do; with several threads that is the time of all together.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tabulate import tabulate

import benchmark.grid.engines.local
from benchmark.cli.main import main as command_line
from benchmark.core.time_left import TimeLeft

_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75)


class _Watched(TimeLeft):
    """Keeps what is said after every step, and what every task takes."""

    said: list[tuple[float, float]]
    tasks: list[tuple[str, float, float]]

    def advance(self) -> None:
        super().advance()
        self.said.append((time.monotonic(), self.left() or 0.0))

    @contextmanager
    def working(self, name: str, steps: int) -> Iterator[None]:
        task, start = self.waiting.get(name), time.monotonic()
        with super().working(name, steps):
            yield
        self.tasks.append((Path(name).name[:30], task.cost_left if task else 0.0, time.monotonic() - start))


def main(flags: list[str]) -> None:
    """Run a grid and print its estimates beside the truth."""
    if "--cpu" in flags:
        flags.remove("--cpu")
        time.monotonic = time.process_time
    run_grid, time_left, ends = benchmark.grid.engines.local.run_grid, None, []

    def watched(grid: Any, *rest: Any) -> Any:
        nonlocal time_left
        time_left = grid.time_left
        time_left.__class__, time_left.said, time_left.tasks = (
            _Watched,
            [(time.monotonic(), time_left.left() or 0.0)],
            [],
        )
        records = run_grid(grid, *rest)
        ends.append(time.monotonic())
        return records

    benchmark.grid.engines.local.run_grid = watched  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        code = command_line(["run", *flags, "--out", folder, "--poisons", f"{folder}/poisons"])
    if code:
        sys.exit(f"run ended with exit code {code}")
    if time_left is None:
        sys.exit("--jobs and --on cannot be watched")
    start, total = time_left.said[0][0], ends[0] - time_left.said[0][0]
    rows = []
    for share in _SHARES:
        when, left = next(pair for pair in time_left.said if pair[0] - start >= share * total)
        whole = when - start + left
        rows.append([f"{share:.0%}", f"{whole:.0f} s", f"{total:.0f} s", f"{whole / total - 1:+.0%}"])
    print(tabulate(rows, ["done", "estimate of the whole", "truth", "error"]), end="\n\n")
    print(tabulate(time_left.tasks, ["task", "expected before the run, s", "taken, s"], floatfmt=".1f"))


if __name__ == "__main__":
    main(sys.argv[1:])

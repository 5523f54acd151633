"""The engine of one machine."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.grid.engines.base import ENGINES, Engine
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import RunSettings
from benchmark.grid.sharing import run_grid


@ENGINES.register("local")
@dataclass(frozen=True)
class Local(Engine):
    """This process, beside others that share its folders or that ``torchrun`` has started."""

    def run(self, grid: Grid, planned: Sequence[PlannedCell], settings: RunSettings) -> list[Record]:
        """Run the cells one after the other."""
        return run_grid(grid, planned, settings.rerun)

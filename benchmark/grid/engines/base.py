"""The contract of engines."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from benchmark.core.registry import Registry
from benchmark.core.spec import parse_spec
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import RunSettings


class Engine(ABC):
    """Does the cells of a plan. Where a cell runs changes neither its address nor its scores."""

    @abstractmethod
    def run(self, grid: Grid, planned: Sequence[PlannedCell], settings: RunSettings) -> list[Record]:
        """Run what has to run; a failed cell is reported and does not stop the others.

        Args:
            grid: open, its folders of records and poisons made.
            planned: all cells of the grid.
            settings: what the grid was made from.

        Returns:
            The records of all planned cells, in order; none in processes that only help the first.

        Raises:
            UsageError: bad input.
        """


ENGINES: Registry[Engine] = Registry("engine", "benchmark.grid.engines", Engine)


def choose_engine(settings: RunSettings) -> Engine:
    """The engine that settings name by ``on``.

    Raises:
        UsageError: unknown engine or parameter.
    """
    return ENGINES.build(parse_spec(settings.on))

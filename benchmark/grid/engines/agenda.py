"""What a run still has to do, whoever does it: which units can begin, and what follows when one ends."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from benchmark.core.errors import Failure
from benchmark.grid.board import Board
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.sharing import settle
from benchmark.grid.units import Unit


class Agenda:
    """The units of a run that wait, and what became of those that have ended.

    Args:
        grid: keeps the records.
        units: in the order they should begin.
        board: shows what ends.

    Attributes:
        waiting: in the order they should begin.
        failed: the records of cells that failed, by key. Those of cells that are done lie in their files alone, so that
            thousands of cells take no memory.
    """

    def __init__(self, grid: Grid, units: Sequence[Unit], board: Board) -> None:
        self._grid, self._board = grid, board
        self._poisons = {unit.name for unit in units if unit.crafts}  # that are not there yet
        self.waiting = list(units)
        self.failed: dict[str, Record] = {}

    def ready(self) -> Iterator[Unit]:
        """The units that can begin, in order."""
        return (unit for unit in self.waiting if unit.needs not in self._poisons)

    def take(self, most: int) -> list[Unit]:
        """The first units that can begin; they wait no more."""
        if taken := list(islice(self.ready(), max(0, most))):
            self.remove(taken)
        return taken

    def remove(self, units: Iterable[Unit]) -> None:
        """Take units out of those that wait."""
        names = {unit.name for unit in units}
        self.waiting = [unit for unit in self.waiting if unit.name not in names]

    def put_back(self, units: Sequence[Unit]) -> None:
        """Let units wait again, before all others."""
        self.waiting[:0] = units

    def ends(self, unit: Unit, outcome: Record | Failure | None) -> list[Unit]:
        """Note how a unit ended: with the record of a cell, with an error, or with a crafted poison (``None``).

        Returns:
            The cells that have ended: the unit itself, or all cells that need a poison that could not be crafted.
        """
        if unit.crafts:
            failure = outcome if isinstance(outcome, Failure) else None
            self._poisons.discard(unit.name)
            self._board.ends(unit, failure=None if failure is None else failure.in_words)
            # The same seed would fail the same way, after the same time.
            cells = [one for one in self.waiting if one.needs == unit.name] if failure else []
            self.remove(cells)
        else:
            failure, cells = None, [unit]
        for cell in cells:
            ended = failure or outcome
            record = cell.planned.planned_record.failed(*ended) if isinstance(ended, Failure) else ended
            assert record is not None
            record = settle(self._grid, cell.planned, record)
            if record.status == "failed":
                self.failed[cell.name] = record
            self._board.ends(cell, record)
        return cells


def gathered(planned: Sequence[PlannedCell], units: Sequence[Unit], failed: Mapping[str, Record]) -> list[Record]:
    """The records of all planned cells, in order, once the units are done.

    Raises:
        UsageError: a record that was written cannot be read.
    """
    ran = {unit.name for unit in units}
    return [
        failed.get(one.key) or (Record.load(one.path) if one.record is None or one.key in ran else one.record)
        for one in planned
    ]

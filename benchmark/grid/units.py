"""The units of a run that workers share: poisons to craft and victims to train, in the order they should begin."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.core.time_left import Task
from benchmark.grid.poison_store import source_cell
from benchmark.grid.runner import PlannedCell
from benchmark.grid.settings import Rerun


@dataclass(frozen=True)
class Unit:
    """A poison to craft or a victim to train.

    Attributes:
        name: the path of the poison's file, or the key of the cell.
        planned: the cell; of a poison the first that needs it.
        crafts: whether it is a poison.
        needs: the name of the poison that has to be there before; ``None`` if it is, or for clean data.
    """

    name: str
    planned: PlannedCell
    crafts: bool
    needs: str | None = None

    @property
    def title(self) -> str:
        """The unit in words."""
        cell = self.planned.cell
        return f"crafting {source_cell(cell).attack.choice.title}, seed {cell.seed}" if self.crafts else cell.title()


def units_of(planned: Sequence[PlannedCell], rerun: Rerun) -> list[Unit]:
    """What has to be done, poisons before victims.

    Args:
        planned: all cells.
        rerun: which of them run.
    """
    poisons: dict[str, Unit] = {}
    victims = []
    for one in planned:
        if not one.has_to_run(rerun):
            continue
        needs = None if one.poison is None or one.poison.is_file() else str(one.poison)
        if needs is not None and needs not in poisons:
            poisons[needs] = Unit(needs, one, crafts=True)
        victims.append(Unit(one.key, one, crafts=False, needs=needs))
    return [*poisons.values(), *victims]


def longest_first(units: Sequence[Unit], tasks: Mapping[str, Task]) -> list[Unit]:
    """Sort units: poisons before victims, and within each of the two the most expensive first.

    If victims cost the same, as when no cost is known, those come first whose defense passes each batch through the
    model most often.

    Args:
        units: in any order; ties that remain keep it.
        tasks: expected costs by the unit's name; a unit without a task costs 0.
    """
    costs = {unit.name: tasks.get(unit.name, Task(unit.name)).cost_left for unit in units}

    def rank(unit: Unit) -> tuple[bool, float, int]:
        return not unit.crafts, -costs[unit.name], 0 if unit.crafts else -unit.planned.cell.defense.defense.passes

    return sorted(units, key=rank)

"""From the name of a table to its function."""

from collections.abc import Callable, Iterable, Mapping

from benchmark.core.errors import UsageError
from benchmark.core.registry import unknown
from benchmark.grid.records import Record
from benchmark.tables import IN_THE_PAPER, TABLES
from benchmark.tables.attacks import attacks
from benchmark.tables.cost import cost
from benchmark.tables.defenses import table2
from benchmark.tables.lengths import table1
from benchmark.tables.matrix import matrix
from benchmark.tables.selection import CLEAN
from benchmark.tables.table import Table
from benchmark.tables.transfer import transfer

_MAKERS: Mapping[str, Callable[..., list[Table]]] = {
    "1": table1,
    "2": table2,
    "matrix": matrix,
    "attacks": attacks,
    "transfer": transfer,
    "cost": cost,
}


def make_tables(name: str, records: Iterable[Record], *, beside_paper: bool = False) -> list[Table]:
    """All tables of one kind, e.g. one for each data set and victim.

    Args:
        name: a key of :data:`benchmark.tables.TABLES`.
        records: of any runs.
        beside_paper: show the paper's values and the differences beside ours. Tables of attacks of which the paper has
            no value are left out, unless there is no other.

    Raises:
        UsageError: unknown name, records that do not make such a table, or the paper has none of this kind.
    """
    if name not in _MAKERS:
        raise UsageError(unknown("table", name, list(TABLES)))
    if not beside_paper:
        return _MAKERS[name](records)
    if name not in IN_THE_PAPER:
        raise UsageError(f"the paper has no table of {name} to set beside ours; it has {' and '.join(IN_THE_PAPER)}")
    tables = _MAKERS[name](records, beside_paper=True)
    return [table for table in tables if table.cells[table.cells["attack"] != CLEAN]["paper"].notna().any()] or tables

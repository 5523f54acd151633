"""The paper's tables and our own, as pure functions of records."""

from collections.abc import Callable, Iterable, Mapping

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record
from benchmark.tables.controls import controls
from benchmark.tables.cost import cost
from benchmark.tables.defenses import table2
from benchmark.tables.lengths import table1
from benchmark.tables.render import FORMATS, render
from benchmark.tables.table import Table
from benchmark.tables.transfer import transfer

TABLES: Mapping[str, Callable[[Iterable[Record]], list[Table]]] = {
    "1": table1,
    "2": table2,
    "controls": controls,
    "transfer": transfer,
    "cost": cost,
}
_PAPERS = {"1": table1, "2": table2}


def make_tables(name: str, records: Iterable[Record], *, beside_paper: bool = False) -> list[Table]:
    """Tables of one kind.

    Args:
        name: one of :data:`TABLES`.
        records: of any runs.
        beside_paper: set the paper's values and the differences beside ours.

    Raises:
        UsageError: records that do not make such a table, or one that the paper does not have.
    """
    if not beside_paper:
        return TABLES[name](records)
    if name not in _PAPERS:
        raise UsageError(f"the paper has no table of {name} to set beside ours; it has {' and '.join(_PAPERS)}")
    return _PAPERS[name](records, beside_paper=True)


__all__ = ["FORMATS", "TABLES", "Table", "make_tables", "render", "table1", "table2"]

"""The paper's tables, as pure functions of records."""

from benchmark.tables.defenses import table2
from benchmark.tables.lengths import table1
from benchmark.tables.render import FORMATS, render
from benchmark.tables.table import Table

__all__ = ["FORMATS", "Table", "render", "table1", "table2"]

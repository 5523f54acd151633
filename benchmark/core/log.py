"""Messages: one format, on standard error, through the standard library's ``logging``.

Every file logs to ``logging.getLogger(__name__)``: progress at level INFO, problems that the run gets around at
WARNING, problems that make it fail at ERROR, and what helps to find a mistake at DEBUG. Results are
not messages; they go to standard output.
"""

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.core.printing import printable, terminal

if TYPE_CHECKING:
    from rich.console import ConsoleRenderable

PACKAGES = ("benchmark", "attacks", "defenses", "victims")


def show_messages(level: int | None = None) -> None:
    """Show the messages of all packages on standard error, from a level upwards.

    Of several processes that ``torchrun`` has started, those after the first show errors alone.

    Args:
        level: a level of ``logging``. Without one, INFO, unless the application has set up the logger ``benchmark``
            itself.
    """
    logger = logging.getLogger(PACKAGES[0])
    if level is None:
        if logger.handlers or logger.level != logging.NOTSET:
            return
        level = logging.INFO
    # A shell may have a rank left over from a job.
    if (os.environ.get("WORLD_SIZE") or "1") != "1" and (os.environ.get("RANK") or "0") != "0":
        level = max(level, logging.ERROR)
    for logger in map(logging.getLogger, PACKAGES):
        logger.setLevel(level)
        # A handler of the root logger, which any library may add, would show every message again.
        logger.propagate = False
        if not any(isinstance(handler, _Handler) for handler in logger.handlers):
            logger.addHandler(_Handler())


@dataclass(frozen=True)
class TableMessage:
    """A message with a table below it: plain text in a log, fitted to the width of a terminal.

    Attributes:
        head: the line above the table.
        columns: their names.
        rows: values, one for each column.
    """

    head: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def __str__(self) -> str:
        from tabulate import tabulate

        rows = [[value if isinstance(value, int) else printable(value) for value in row] for row in self.rows]
        return f"{printable(self.head)}\n{tabulate(rows, headers=self.columns)}\n"

    def __rich__(self) -> "ConsoleRenderable":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in self.columns:
            table.add_column(column, overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(printable(value)) for value in row))
        return Group(Text(printable(self.head)), table, "")


class _Handler(logging.Handler):
    """Writes to what standard error is at the moment: a progress bar puts itself in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message; a table of rich's is drawn where standard error is a terminal."""
        try:
            if hasattr(record.msg, "__rich__") and sys.stderr.isatty():
                terminal(stderr=True).print(record.msg)
            else:
                print(self.format(record), file=sys.stderr, flush=True)  # noqa: T201
        except Exception:
            self.handleError(record)


class _Formatter(logging.Formatter):
    """The message alone, with the level before it unless it is INFO: ``error: no folder of records x``.

    Arguments are escaped to one line; line breaks of the message itself are kept.
    """

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.args, tuple):
            record = logging.makeLogRecord(vars(record))
            record.args = tuple(one if isinstance(one, int | float) else printable(one) for one in record.args or ())
        text = "\n".join(map(printable, super().format(record).split("\n")))
        return text if record.levelno == logging.INFO else f"{record.levelname.lower()}: {text}"

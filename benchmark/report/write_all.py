"""Everything that a folder of results holds beside its records: tables, figures and the report."""

import logging
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.core.atomic_files import replacing
from benchmark.core.errors import UsageError
from benchmark.core.printing import show
from benchmark.figures import FIGURES
from benchmark.figures.draw import draw_all
from benchmark.figures.sources import ArtifactPaths
from benchmark.figures.style import write
from benchmark.grid.records import Record, load_records
from benchmark.report.page import write_report
from benchmark.tables import IN_THE_PAPER, TABLES
from benchmark.tables.make import make_tables
from benchmark.tables.render import render
from benchmark.tables.selection import CLEAN

_log = logging.getLogger(__name__)


def write_all(records: Sequence[Record], out: Path, sources: ArtifactPaths) -> None:
    """Write the tables, the figures and the report of some records into ``out``, and print what was written.

    Tables and figures that the records do not make are named on standard error and left out. A table of other records
    that is there already is removed; a figure stays where it cannot be drawn again, such as samples whose poison is
    gone.

    Args:
        records: at least one.
        out: the folder, which holds the records in ``records``.
        sources: where poisons and images are, for the samples.

    Raises:
        UsageError: no records, or the folder cannot be written to.
    """
    for path in _write_tables(records, out):
        show(path)
    folder = out / "figures"
    figures, problems = draw_all(FIGURES, records, sources)
    for name, figure in figures.items():
        show(*write(figure, folder, name, formats=("png",)))
    for problem in problems:
        _log.warning("not drawn: %s", problem)
    write_report(records, replace(sources, drawn=folder), out / "report.html")
    show(out / "report.html")


def _write_tables(records: Sequence[Record], out: Path) -> list[Path]:
    there = load_records(out / "records") if (out / "records").is_dir() else []
    others = {one.file_name() for one in there} - {one.file_name() for one in records}
    printed = "Made from a part of the records. A table of all of them is printed by" if others else "Printed by"
    poisoned = [record for record in records if record.attack.spec != CLEAN]
    several = any(len({getattr(one, half).spec for one in poisoned}) > 1 for half in ("surrogate", "victim"))
    written = []
    tables = [(name, False) for name in TABLES] + [(name, True) for name in IN_THE_PAPER]
    for name, beside_paper in tables:
        path = out / f"table-{name}{'-beside-paper' if beside_paper else ''}.md"
        if name == "transfer" and not several:
            path.unlink(missing_ok=True)
            continue
        command = ["table", name, "--records", str(out / "records"), *(["--beside", "paper"] if beside_paper else [])]
        try:
            text = render(make_tables(name, records, beside_paper=beside_paper), "markdown")
        except UsageError as error:
            _log.warning("table %s: %s", name, error)
            path.unlink(missing_ok=True)
            continue
        with replacing(path) as temporary:
            title = f"# Table {name}{' beside the paper' if beside_paper else ''}"
            printed_by = f"{printed}\n\n```sh\npython -m benchmark {shlex.join(command)}\n```"
            temporary.write_text(f"{title}\n\n{printed_by}\n\n{text}\n", "utf-8")
        written.append(path)
    return written

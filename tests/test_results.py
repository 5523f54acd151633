"""What lies in results/: every table, figures once, one page, and little of it."""

from pathlib import Path

from benchmark.grid.records import load_records
from benchmark.tables.make import make_tables
from benchmark.tables.render import render

RESULTS = Path("results")
TINY = RESULTS / "five-grounds/tiny"
MB = 10**6


def test_every_table_is_there() -> None:
    names = {"1", "1-beside-paper", "2", "2-beside-paper", "matrix", "attacks", "cost"}
    assert {page.stem.removeprefix("table-") for page in TINY.glob("table-*.md")} == names


def test_figures_are_kept_once_and_results_are_light() -> None:
    files = [path for path in RESULTS.rglob("*") if path.is_file() and "runs" not in path.parts]
    assert {path.suffix for path in files} <= {".json", ".md", ".png", ".html"}
    pages = [path for path in files if path.suffix == ".html"]
    assert not [path for path in pages if path != RESULTS / "tiny" / "report.html"]
    assert sum(path.stat().st_size for path in files) <= 7 * MB
    assert all(path.stat().st_size <= 1.5 * MB for path in pages)


def test_the_table_in_a_readme_is_what_its_command_prints() -> None:
    folder = RESULTS / "five-grounds/micro-controls"
    table = render(make_tables("attacks", load_records(folder / "records")), "markdown")
    assert (folder / "README.md").read_text("utf-8").endswith(f"\n\n{table}\n")

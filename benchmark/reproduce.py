"""The ``reproduce`` command: every cell, table and figure of the supplement in one go; only missing cells run."""

import argparse
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path

from benchmark.figures import FIGURES, Sources, write
from benchmark.files import replacing
from benchmark.paths import cache_folder
from benchmark.records import load_records
from benchmark.report import write_report
from benchmark.tables import make_tables, render

# What the supplement shows: lengths of the trigger (Table 1), defenses on poisoned data and on clean (Table 2); and
# what it does not: the controls that tell where the poison's power sits.
GRIDS = (
    ("em,mem1,mem3,mem5,mem7", "none"),
    ("clean,mem3", "all"),
    ("uniform-noise,trigger-only,delta-only,em-official,mem-official", "none"),
)
TABLES = (("1", False), ("1", True), ("2", False), ("2", True), ("controls", False), ("cost", False))


def reproduce_command(arguments: argparse.Namespace) -> int:
    """Run what is missing under ``--out``/records, then write tables, figures and the report beside it.

    Returns:
        0 if every cell is done, 1 if one failed; what the others show is written all the same.

    Raises:
        UsageError: bad input.
    """
    from benchmark.cli import BAD_INPUT, INTERRUPTED, main

    out: Path = arguments.out or Path("results") / arguments.preset
    shared = ["--preset", arguments.preset, "--seeds", arguments.seeds, "--out", str(out / "records")]
    for flag in ("dataset", "device", "poisons", "cache"):
        if (value := getattr(arguments, flag)) is not None:
            shared += [f"--{flag}", str(value)]
    failed = 0
    for attack, defense in GRIDS:
        command = ["run", "--attack", attack, "--defense", defense, *shared]
        print(f"python -m benchmark {shlex.join(command)}", file=sys.stderr, flush=True)
        with redirect_stdout(sys.stderr):
            code = main(command)
        if code in (BAD_INPUT, INTERRUPTED):
            return code
        failed |= code
    cache = Path(arguments.cache or cache_folder())
    write_all(out, Sources(Path(arguments.poisons or cache / "poisons"), cache))
    return failed


def write_all(out: Path, sources: Sources) -> None:
    """Tables, figures and the report from the records in ``out``/records.

    Raises:
        UsageError: no records, or the folder cannot be written to.
    """
    records = load_records(out / "records")
    for name, beside_paper in TABLES:
        command = ["table", name, "--records", str(out / "records"), *(["--beside", "paper"] if beside_paper else [])]
        text = render(make_tables(name, records, beside_paper=beside_paper), "markdown")
        file = out / f"table-{name}{'-beside-paper' if beside_paper else ''}.md"
        with replacing(file) as temporary:
            temporary.write_text(
                f"Printed by\n\n```sh\npython -m benchmark {shlex.join(command)}\n```\n\n{text}\n", "utf-8"
            )
        print(file)
    for draw in FIGURES.values():
        for name, figure in draw(records, sources).items():
            print("\n".join(str(path) for path in write(figure, out / "figures", name)))
    write_report(records, sources, out / "report.html")
    print(out / "report.html")

"""The ``reproduce`` command: every cell, table and figure of the supplement in one go; only missing cells run."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.core.atomic_files import replacing
from benchmark.core.cache_dir import cache_folder
from benchmark.core.distributed import Processes, process_group
from benchmark.core.errors import UsageError
from benchmark.figures import FIGURES, ArtifactPaths, write
from benchmark.grid.records import Record
from benchmark.report import write_report
from benchmark.tables import make_tables, render

# What the supplement shows: lengths of the trigger (Table 1), defenses on poisoned data and on clean (Table 2); and
# what it does not: the controls that tell where the poison's power sits.
GRIDS = (
    ("em,mem1,mem3,mem5,mem7", "none"),
    ("clean,mem3", "all"),
    ("uniform-noise,random-trigger,trigger-only,delta-only,em-official,mem-official", "none"),
)
# One poison, many victims: the paper's others see what RN50's surrogate has crafted.
TRANSFER = {"paper": ("em,mem3", "RN101,ViT-B-32,ViT-B-16")}
TABLES = (("1", False), ("1", True), ("2", False), ("2", True), ("controls", False), ("cost", False))


def reproduce_command(arguments: argparse.Namespace) -> int:
    """Run what is missing under ``--out``/records, then write tables, figures and the report beside it.

    What is written shows the cells of this command alone, whatever other records lie there.

    Returns:
        0 if every cell is done, 1 if one failed; what the others show is written all the same.

    Raises:
        UsageError: bad input.
    """
    from benchmark.cli.main import build_parser
    from benchmark.grid.run import outcome, run
    from victims.clip import resolve_device

    out: Path = arguments.out or Path("results") / arguments.preset
    shared = ["--preset", arguments.preset, "--seeds", arguments.seeds, "--out", str(out / "records")]
    for flag in ("dataset", "device", "precision", "poisons", "cache", "rerun"):
        if (value := getattr(arguments, flag)) is not None:
            shared += [f"--{flag}", str(value)]
    grids = [["--attack", attack, "--defense", defense] for attack, defense in GRIDS]
    if arguments.preset in TRANSFER:
        attack, victims = TRANSFER[arguments.preset]
        grids.append(["--attack", attack, "--defense", "none", "--victim", victims])
    if arguments.dry_run:
        shared.append("--dry-run")
    if arguments.preset == "paper" and arguments.dataset is None:
        print("data: rendered scenes; --dataset names the paper's, e.g. 'flickr30k[root=DIR]'", file=sys.stderr)
    records: dict[str, Record] = {}
    with process_group(resolve_device(arguments.device or "auto")):
        for grid in grids:
            command = ["run", *grid, *shared]
            if Processes.current().is_first:
                print(f"python -m benchmark {shlex.join(command)}", file=sys.stderr, flush=True)
            found = run(build_parser().parse_args(command), command, already_run=list(records))
            records |= {record.key: record for record in found}
    if not records:
        return 0  # the plan alone, or a process that has helped torchrun's first
    cache = Path(arguments.cache or cache_folder())
    write_all(list(records.values()), out, ArtifactPaths(Path(arguments.poisons or cache / "poisons"), cache))
    return outcome(list(records.values()))


def write_all(records: Sequence[Record], out: Path, sources: ArtifactPaths) -> None:
    """Tables, figures and the report of some records, into ``out``; what these do not make is told and left out.

    Raises:
        UsageError: the folder cannot be written to.
    """
    victims = {record.victim.spec for record in records}
    for name, beside_paper in [*TABLES, *([("transfer", False)] if len(victims) > 1 else [])]:
        command = ["table", name, "--records", str(out / "records"), *(["--beside", "paper"] if beside_paper else [])]
        try:
            text = render(make_tables(name, records, beside_paper=beside_paper), "markdown")
        except UsageError as error:
            print(f"table {name}: {error}", file=sys.stderr)
            continue
        file = out / f"table-{name}{'-beside-paper' if beside_paper else ''}.md"
        with replacing(file) as temporary:
            temporary.write_text(
                f"Printed by\n\n```sh\npython -m benchmark {shlex.join(command)}\n```\n\n{text}\n", "utf-8"
            )
        print(file)
    for name, draw in FIGURES.items():
        try:
            figures = draw(records, sources)
        except UsageError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        for file_name, figure in figures.items():
            print("\n".join(str(path) for path in write(figure, out / "figures", file_name)))
    write_report(records, sources, out / "report.html")
    print(out / "report.html")

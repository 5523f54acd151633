"""The ``check`` command: run fresh seeds of a preset and compare them with reference records."""

import argparse
import io
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path

from benchmark.core.atomic_files import replacing
from benchmark.core.errors import UsageError
from benchmark.core.locks import claimed
from benchmark.core.registry import convert
from benchmark.grid.provenance import git_commit
from benchmark.grid.records import Record, load_records
from benchmark.reference_check.intervals import LEAST_SEEDS, compare, require_comparable
from benchmark.reference_check.pages import comparison_table, reference_page, seeds_table

PRESET = "micro"
REFERENCE = Path("results/reference") / PRESET
# Clean data, the baseline, the attack, and the defense that undoes it.
_GRIDS = (("em,mem3", "none"), ("mem3", "prefix-drop"))


def check_command(arguments: argparse.Namespace) -> int:
    """Compare fresh seeds with the reference, or write a new reference.

    Returns:
        0 if every number lies in its interval, 1 if not or if a cell failed.

    Raises:
        UsageError: no reference, or one that cannot be compared with.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("check runs in one process, without torchrun")
    folder: Path = arguments.reference or REFERENCE
    if arguments.update:
        return _update(folder, arguments.seeds, arguments.device)
    level = convert(arguments.level, float, "--level")
    if not 0 < level < 1:
        raise UsageError(f"--level must be between 0 and 1, got {level:g}")
    count = convert(arguments.seeds or 1, int, "--seeds")
    if not (folder / "records").is_dir():
        raise UsageError(f"no reference in {folder}; run check in a checkout of the suite, or name one by --reference")
    reference = load_records(folder / "records")
    if arguments.records:
        return _replay(reference, load_records(arguments.records), level)
    with tempfile.TemporaryDirectory() as temporary:
        out: Path = arguments.out or Path(temporary)
        seeds = _fresh_seeds(count, reference)
        # Crafted here and now, whatever the cache holds.
        fresh = _run(
            ",".join(map(str, seeds)) + ",",
            out,
            Path(temporary) / "poisons",
            arguments.device,
            lambda planned: require_comparable(reference, planned),
        )
    if any(record.status == "failed" for record in fresh):
        return 1
    compared = compare(reference, fresh, level)
    print(comparison_table(compared, seeds, reference, level))
    return 0 if all(one.holds for one in compared) else 1


def _replay(reference: Sequence[Record], fresh: Sequence[Record], level: float) -> int:
    """Compare each seed of records that are there, as one check each."""
    found = {
        seed: compare(reference, [record for record in fresh if record.seed == seed], level)
        for seed in sorted({record.seed for record in fresh})
    }
    if not found:
        raise UsageError("--records: there are none")
    print(seeds_table(found))
    return 0 if all(one.holds for compared in found.values() for one in compared) else 1


def _update(folder: Path, seeds: str | None, device: str | None) -> int:
    """Make every cell of a reference anew, poisons too, and put it in the place of what is there once all are done.

    Until then they lie in a hidden folder beside it, named by the commit: a killed update goes on from there.

    Raises:
        UsageError: too few seeds, records that are no reference, or code that no commit names.
    """
    there = load_records(folder / "records") if (folder / "records").is_dir() else []
    if strangers := [one for one in there if one.provenance.get("preset") != PRESET]:
        raise UsageError(f"{folder} holds records that are no reference, such as {strangers[0].file_name()}")
    count = convert(seeds or max(LEAST_SEEDS, len({one.seed for one in there})), int, "--seeds")
    if count < LEAST_SEEDS:
        raise UsageError(f"--seeds must be at least {LEAST_SEEDS} for a reference, got {count}")
    commit = git_commit() or "no-commit"
    if commit.endswith("-dirty"):
        raise UsageError("a reference names the commit that made it: commit the changes of this checkout first")
    work = folder / f".update-{commit}"
    records = _run(str(count), work / "records", work / "poisons", device)
    if any(record.status == "failed" for record in records):
        print("the same command runs the failed cells again", file=sys.stderr)
        return 1
    for record in records:
        record.save(work / "reference")
    with claimed(folder / "records", wait=True):
        # Another process that shares the work may have been here before.
        if (work / "reference").is_dir():
            if there:
                (folder / "records").replace(work / "replaced")
            (work / "reference").replace(folder / "records")
            with replacing(folder / "README.md") as temporary:
                temporary.write_text(reference_page(records), "utf-8")
            shutil.rmtree(work)
    print(f"{folder}: {count} seeds in the place of {len({one.seed for one in there})}")
    return 0


def _fresh_seeds(count: int, reference: Sequence[Record]) -> list[int]:
    if count < 1:
        raise UsageError(f"--seeds must be at least 1, got {count}")
    taken = {record.seed for record in reference}
    fresh: list[int] = []
    while len(fresh) < count:
        seed = secrets.randbelow(2**31)
        if seed not in taken:
            fresh.append(seed)
            taken.add(seed)
    return fresh


def _run(
    seeds: str,
    out: Path,
    poisons: Path,
    device: str | None,
    on_plan: Callable[[list[Record]], None] = lambda planned: None,
) -> list[Record]:
    """Run the grids of preset ``micro`` once ``on_plan`` has seen the plan of all; the records of their cells."""
    from benchmark.cli.main import build_parser
    from benchmark.grid.run import run

    on = ["--device", device] if device else []
    # What records tell of their command need not name a folder of this machine.
    commands = [
        ["run", "--preset", PRESET, "--attack", attack, "--defense", defense, "--seeds", seeds, *on]
        for attack, defense in _GRIDS
    ]
    arguments = [
        build_parser().parse_args([*command, "--out", str(out), "--poisons", str(poisons), "--rerun", "failed"])
        for command in commands
    ]
    planned: list[Record] = []
    with redirect_stderr(io.StringIO()):  # plans are shown when they run
        for command, one in zip(commands, arguments, strict=True):
            run(argparse.Namespace(**{**vars(one), "dry_run": True}), command, planned.extend)
    on_plan(list({record.key: record for record in planned}.values()))
    records: dict[str, Record] = {}
    for command, one in zip(commands, arguments, strict=True):
        records |= {record.key: record for record in run(one, command, already_run=list(records))}
    return list(records.values())

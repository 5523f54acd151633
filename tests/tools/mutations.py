"""Break one thing at a time and see a test turn red: ``python -m tests.tools.mutations``.

Each mutation is a piece of code and what takes its place. The tree is copied, changed and tested there, with poisons
crafted anew (no cache is shared). Exit code 0 if every mutation was caught; prints a table for tests/MUTATIONS.md.

``python -m tests.tools.mutations check`` asks ``python -m benchmark check`` instead, for the mutations that bear on the
strength of a poison, some minutes each. Further words choose the mutations whose fault contains one of them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import yaml


class Mutation(NamedTuple):
    """What is broken, where, the code and its replacement, the tests that should notice; whether ``check`` should."""

    fault: str
    file: str
    code: str
    replacement: str
    tests: str
    checked: bool = False


ROOT = Path(__file__).parents[2]
MUTATIONS = [
    Mutation(**entry) for entry in yaml.safe_load(Path(__file__).with_name("mutations.yaml").read_text("utf-8"))
]
FOLDERS = (
    "benchmark",
    "attacks",
    "defenses",
    "victims",
    "tests",
    "docs",
    "results/paper",
    "results/reference",
    "results/tiny",
)


def copied(mutation: Mutation, folder: Path) -> None:
    """Copy the tree into ``folder`` and break it there.

    Raises:
        ValueError: the code to replace is not there exactly once.
    """
    copy_tree(folder)
    file = folder / mutation.file
    text = file.read_text("utf-8")
    if text.count(mutation.code) != 1:
        raise ValueError(f"{mutation.file} holds {mutation.code!r} {text.count(mutation.code)} times")
    file.write_text(text.replace(mutation.code, mutation.replacement), "utf-8")


def copy_tree(folder: Path) -> None:
    """Copy what the tests need into ``folder``."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def caught_by_tests(mutation: Mutation, folder: Path) -> str:
    """The first test that turns red in the broken tree, or nothing.

    Raises:
        RuntimeError: the tests could not be run, or that test is red in an unbroken tree as well; neither says anything
            of the mutation.
    """
    try:
        red = _red(mutation.tests.split(), folder)
    except RuntimeError as error:
        raise RuntimeError(f"{mutation.fault}: {error}") from error
    if not red:
        return ""
    with tempfile.TemporaryDirectory() as unbroken:
        copy_tree(Path(unbroken))
        if _red([red], Path(unbroken)):
            raise RuntimeError(f"{mutation.fault}: {red} is red in an unbroken copy, too")
    return f"`{red}`"


def _red(tests: list[str], folder: Path) -> str:
    """The first test that is red in a tree, or nothing.

    Raises:
        RuntimeError: the tests could not be run.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    summary = (line.partition(" - ")[0] for line in done.stdout.splitlines())
    red = [line.split(maxsplit=1)[1] for line in summary if line.startswith(("FAILED tests", "ERROR tests"))]
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest of {tests[0]} ended with {done.returncode}: {done.stdout[-500:]}")
    return red[0] if red else ""


def caught_by_check(mutation: Mutation, folder: Path) -> str:
    """The cells outside their interval in the broken tree, or nothing.

    Raises:
        RuntimeError: check could not compare, which says nothing of the mutation.
    """
    command = [sys.executable, "-m", "benchmark", "check"]
    variables = {**os.environ, "UNLEARNABLE_BENCH_CACHE": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    # Where more seeds decided, the last table is theirs.
    table = done.stdout.rpartition("| cell or poison")[2]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "✗" in line]
    if done.returncode != 1 or not rows:
        raise RuntimeError(f"check ended with {done.returncode}: {done.stderr[-500:]}")
    return "; ".join(f"{cell}: {what} {now}, not {interval}" for cell, what, _, now, interval, _ in rows)


def main(words: list[str]) -> int:
    """Try the mutations and print the table."""
    ask_check = words[:1] == ["check"]
    wanted = words[ask_check:] or [""]
    mutations = [one for one in MUTATIONS if one.checked or not ask_check]
    print(f"| fault | file | {'what check says' if ask_check else 'the test that turned red'} |\n|---|---|---|")
    missed = 0
    for mutation in mutations:
        if not any(word in mutation.fault for word in wanted):
            continue
        with tempfile.TemporaryDirectory() as folder:
            copied(mutation, Path(folder))
            caught = (caught_by_check if ask_check else caught_by_tests)(mutation, Path(folder))
        missed += not caught
        print(f"| {mutation.fault} | {mutation.file} | {caught or '**none**'} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

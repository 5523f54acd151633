"""The command ``protect`` with a small budget, and the captions that it wrote."""

import csv
import io
from pathlib import Path

from benchmark.cli.main import main

QUICK = ["--attack", "em-wordwise[restarts=2,steps=2]"]


def protect(photos: object, out: Path, *flags: str) -> int:
    words = ["protect", str(photos), "--out", str(out), "--preset", "micro", "--poisons", str(out.parent / "poisons")]
    return main([*words, *([] if "--attack" in flags else QUICK), *flags])


def rows_of(out: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO((out / "captions.csv").read_text(encoding="utf-8"))))[1:]

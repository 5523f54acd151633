"""What fuzzing for a longer time found: a JSON file of all readers, and a page of it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tabulate import tabulate

from tests.fuzz.campaign import Summary

PAGE, FILE = "README.md", "readers.json"
_SHOWN = 5  # messages of each reader
_KEPT = 12  # in the file; most of the others were seen once
_COLUMNS = ("reader", "inputs", "refused", "distinct messages", "slowest, s", "memory, MiB", "failures", "commit")


def save(summary: Summary, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write what a reader's run found into the folder's file, with facts of the run, and the page of it anew."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    found = json.loads(file.read_text("utf-8")) if file.exists() else {}
    found[summary.reader] = {
        **asdict(summary),
        "distinct": len(summary.messages),
        "messages": _most(summary.messages, _KEPT),
        **facts,
    }
    text = json.dumps(dict(sorted(found.items())), indent=1, ensure_ascii=False)
    file.write_text(f"{text}\n", "utf-8")
    (folder / PAGE).write_text(page(folder), "utf-8")


def page(folder: Path) -> str:
    """Tables of all readers; a function of the folder's file alone."""
    runs = list(json.loads((folder / FILE).read_text("utf-8")).values())
    made: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        where = f"on {run['machine']}, {run['finished'][:10]}"
        made.setdefault(run["command"], {}).setdefault(where, []).append(run["reader"])
    total = sum(run["examples"] for run in runs)
    minutes = sum(run["seconds"] for run in runs) / 60
    lines = ["# Damaged and forged files of every kind", "", "Made by:", ""]
    for command, readers in sorted(made.items()):
        lines += ["```sh", command, "```", ""]
        lines += [f"- {where}: {', '.join(own)}" for where, own in sorted(readers.items())]
    lines += ["", f"{total:,} inputs in {minutes:.0f} minutes. Memory is what an input added at most.", ""]
    rows = [
        (
            *(run["reader"], run["examples"], run["refused"], run["distinct"], run["slowest"]),
            *(run["memory"] / 2**20, len(run["failures"]), f"`{run['commit'][:12]}`"),
        )
        for run in runs
    ]
    lines += [tabulate(rows, _COLUMNS, tablefmt="github", floatfmt=("", "", "", "", ".2f", ".0f", "", "")), ""]
    failed = [(run["reader"], name) for run in runs for name in run["failures"]]
    lines += ["## Failures", "", *([f"- {reader}: {_quoted(name)}" for reader, name in failed] or ["None."]), ""]
    lines += ["## Most frequent messages", ""]
    for run in runs:
        most = _most(run["messages"], _SHOWN)
        lines += [f"- **{run['reader']}**", *(f"  - {count:,} × {_quoted(text)}" for text, count in most.items())]
    return "\n".join([*lines, ""])


def _most(messages: Mapping[str, int], count: int) -> dict[str, int]:
    """The most frequent ones, in order."""
    return dict(sorted(messages.items(), key=lambda item: (-item[1], item[0]))[:count])


def _quoted(text: str) -> str:
    return f"`{text.replace('`', '')}`"

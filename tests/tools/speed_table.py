"""The Markdown table of a benchmark run, for results/benchmarks/: ``python tests/tools/speed_table.py run.json``."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

RUN = "python -m pytest tests/benchmarks -m {marker} --benchmark-enable --benchmark-json=run.json"
PRINT = "python tests/tools/speed_table.py run.json"


def markdown(report: dict[str, Any]) -> str:
    """The tables of model steps and of other work, with the machine and the commands.

    Args:
        report: what pytest-benchmark wrote; benchmarks without a ``stage`` in ``extra_info`` are left out.
    """
    machine = report["machine_info"]["bench"]
    figures = [entry["extra_info"] for entry in report["benchmarks"]]
    steps = [one for one in figures if "rows_per_second" in one]
    others = [one for one in figures if "items_per_second" in one]
    hours = [one["hours"] for one in figures if "hours" in one]
    cores = machine["cores"]
    name = f"{machine['name']}, {cores} core{'s' if cores > 1 else ''}, torch {machine['torch']}"
    lines = [
        f"# Speed on {name}",
        "",
        "Made by:",
        "",
        f"```sh\n{RUN.format(marker='speed' if steps or others else 'large')}\n{PRINT}\n```",
        "",
        f"Median times; torch threads: {machine['threads']}; models in {machine['precision']}; commit "
        f"`{report['commit_info']['id'][:12]}`{' with changes' if report['commit_info']['dirty'] else ''}.",
    ]
    if steps:
        peak = steps[0]["matmul_peak"]
        lines += [
            "Operations are those that the algorithm needs, counted on plain open_clip models "
            "(`tests/benchmarks/flops.py`); "
            f"the peak is a square {machine['precision']} matrix product in the same run: {peak / 1e9:,.0f} GFLOP/s.",
            "",
            _table([_step(one) for one in steps]),
        ]
    for profile in [one["profile"] for one in figures if "profile" in one]:
        lines += [
            "",
            f"Where a victim's step goes ({profile['model']}, {profile['batch']} rows):",
            "",
            _profile(profile),
        ]
    facts = [fact for one in figures for fact in one.get("facts", {}).items()]
    if facts:
        lines += ["", *(f"- {what}: {value}" if value else f"- {what}:" for what, value in facts)]
    if others:
        lines += ["", _table([_other(one) for one in others])]
    for extrapolated in hours:
        lines += [
            "",
            f"Extrapolated from the RN50 steps, not run: {extrapolated:,.1f} hours for a Table 2 of Flickr30K's size, "
            "one MEM-3 poison of 29,000 images and eleven victims of 32 epochs × 145,000 rows "
            "(`tests/benchmarks/hours.py`).",
        ]
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """A time to three digits, in s or ms."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _step(figures: dict[str, Any]) -> dict[str, str]:
    return {
        "stage": figures["stage"],
        "model": figures["model"],
        "rows": f"{figures['batch']:,}",
        "time": duration(figures["seconds"]),
        "ms/row": f"{figures['seconds_per_row'] * 1e3:,.4g}",
        "rows/s": f"{figures['rows_per_second']:,.4g}",
        "GFLOP/s": f"{figures['flop_per_second'] / 1e9:,.0f}",
        "% of peak": f"{figures['share_of_peak']:.0%}".rstrip("%"),
    }


def _other(figures: dict[str, Any]) -> dict[str, str]:
    return {
        "stage": figures["stage"],
        "items": f"{figures['items']:,}",
        "time": duration(figures["seconds"]),
        "items/s": f"{figures['items_per_second']:,.0f}",
    }


def _profile(profile: dict[str, Any]) -> str:
    whole = sum(profile["seconds"].values())
    rows = [
        {"stage": name, "time": duration(seconds), "share": f"{seconds / whole:.0%}"}
        for name, seconds in profile["seconds"].items()
    ]
    total = {"stage": "whole step", "time": duration(whole), "share": f"{profile['batch'] / whole:,.0f} rows/s"}
    return _table([*rows, total])


def _table(rows: list[dict[str, str]]) -> str:
    words = ("stage", "model")
    align = ["left" if column in words else "right" for column in rows[0]]
    return pd.DataFrame(rows).to_markdown(index=False, colalign=align, disable_numparse=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {PRINT}")
    print(markdown(json.loads(Path(sys.argv[1]).read_text("utf-8"))), end="")

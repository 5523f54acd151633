"""What the reference check prints: comparisons, seeds one by one, and the page of a reference."""

import itertools
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from tabulate import tabulate

from benchmark.grid.records import Record
from benchmark.reference_check.intervals import Comparison, prediction
from benchmark.reference_check.quantities import Quantity, series

_TERMS = (
    "R@10, R@1: on test after the last epoch, mean of both directions, median of a seed's victims; crafting loss: the "
    "surrogate's after PGD, mean over rounds; words of a trigger: mean over images; closest test images: how far the "
    "2 % that are closest to training images are from them."
)


def comparison_table(
    compared: Sequence[Comparison], fresh: Sequence[Record], reference: Sequence[Record], level: float
) -> str:
    """The comparisons as Markdown, with the rule below."""
    rows = [
        [
            number.cell,
            number.quantity.name,
            f"{number.quantity.shown(number.reference)} ± {number.quantity.shown(number.spread)}",
            number.quantity.shown(number.now),
            _span(number.quantity, number.low, number.high),
            "✓" if number.holds else "✗",
        ]
        for number in compared
    ]
    headers = ["cell or poison", "", "reference", "now", "interval", ""]
    table = tabulate(
        rows, headers, tablefmt="github", disable_numparse=True, colalign=("left", "left", *["right"] * 3, "center")
    )
    outside = sum(not number.holds for number in compared)
    verdict = "as strong as the reference" if not outside else f"{outside} of {len(compared)} numbers changed"
    count = len({record.seed for record in reference})
    seeds = sorted({record.seed for record in fresh})
    rule = (
        f"{_TERMS} Fresh seeds {', '.join(map(str, seeds))} against {count} reference "
        "seeds. Interval: where the mean of the fresh seeds lies if nothing has changed (Student's t, spread from "
        "seed to seed; R@10 of all but clean is predicted from the same seed's clean victim); "
        f"all {len(compared)} hold together with probability {1 - level:g}."
    )
    return f"{table}\n\n{rule}\n{verdict}"


def _span(quantity: Quantity, low: float, high: float) -> str:
    return f"{quantity.shown(low)} – {quantity.shown(high)}"


def seeds_table(judged: Mapping[tuple[int, ...], Sequence[Comparison]]) -> str:
    """One line for each number: its values of all seeds, how many lie in their intervals, and those outside.

    Args:
        judged: by seed; one that is in doubt comes once more, with the seeds that decide.
    """
    rows = []
    for numbers in zip(*judged.values(), strict=True):
        values, quantity = [number.now for number in numbers], numbers[0].quantity
        outside = [
            f"{quantity.shown(number.now)} ({_span(quantity, number.low, number.high)})"
            for number in numbers
            if not number.holds
        ]
        inside = f"{len(values) - len(outside)} of {len(values)}"
        span = _span(quantity, min(values), max(values))
        rows.append([numbers[0].cell, quantity.name, span, inside, "; ".join(outside) or "–"])
    headers = ["cell or poison", "", "lowest – highest", "inside", "outside (interval)"]
    passed = [seeds for seeds, compared in judged.items() if all(number.holds for number in compared)]
    with_others = sum(len(seeds) > 1 for seeds in passed)
    checks = len({seeds[0] for seeds in judged})
    return (
        f"{tabulate(rows, headers, tablefmt='github', disable_numparse=True)}\n\n"
        f"{len(passed)} of {checks} checks pass, {with_others} of them with more seeds."
    )


def reference_page(records: Sequence[Record]) -> str:
    """What a reference says, and where it comes from, as Markdown."""
    passing = {fresh: prediction(records, fresh) for fresh in (1, 3)}
    rows = []
    for position, item in enumerate(series(records)):
        values, shown = list(item.values.values()), item.quantity.shown
        spread = f"{shown(fmean(values))} ± {shown(float(np.std(values, ddof=1)))}"
        intervals = [_span(item.quantity, *spans[position]) for spans in passing.values()]
        rows.append(
            [
                item.cell,
                item.quantity.name,
                spread,
                _span(item.quantity, min(values), max(values)),
                len(values),
                *intervals,
            ]
        )
    headers = ["cell or poison", "", "mean ± standard deviation", "lowest – highest", "seeds"]
    headers += [f"passes with {fresh} fresh seed{'s' if fresh > 1 else ''}" for fresh in passing]
    table = tabulate(rows, headers, tablefmt="github", colalign=("left", "left", *["right"] * 5))

    def values_of(name: str) -> str:
        return ", ".join(sorted({str(record.provenance.get(name)) for record in records}))

    versions = sorted(
        {f"{name} {v}" for record in records for name, v in record.provenance.get("versions", {}).items()}
    )
    seeds = {record.seed for record in records}
    own = next(number for number in itertools.count(1) if number not in seeds) - 1
    added = f", and {len(seeds) - own} fresh seeds added by `check --update --records DIR`," if len(seeds) > own else ""
    return (
        "# Reference of `python -m benchmark check`\n\n"
        f"Written by `python -m benchmark check --update --seeds {own}`{added} "
        "from [records](records), which also hold epochs, losses and times. "
        f"{_TERMS}\n\n{table}\n\n"
        "What passes is the check's interval where the fresh seeds' clean victims are average ones.\n\n"
        f"- commit: {values_of('commit')}\n- device: {values_of('device')}\n- finished last (UTC): "
        f"{max(str(record.provenance.get('finished')) for record in records)}\n- versions: {', '.join(versions)}\n"
    )

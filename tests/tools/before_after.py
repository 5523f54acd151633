"""Strength before and after the fast paths, from the kept records: ``python -m tests.tools.before_after``."""

from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

from tabulate import tabulate

from benchmark.grid.records import load_records

_RESULTS = Path(__file__).parents[2] / "results"
_SEEDS = (1, 2, 3)

Cells = dict[tuple[str, str, int], tuple[float, float]]
Of = Callable[[str, str, int], tuple[float, float]]


def recalls(folder: Path) -> Cells:
    """R@10 after the last epoch, percent, Image→Text first, by attack, defense and seed."""
    return {
        (one.attack.spec, one.defense.spec, one.seed): (
            one.epochs[-1].test.image_to_text.recall_at_10,
            one.epochs[-1].test.text_to_image.recall_at_10,
        )
        for one in load_records(folder)
    }


def recovered(of: Of, defense: str) -> str:
    """``recov.`` of Table 2: R = Σ d / Σ l over the seeds, ± the deviation of (d − R l) / mean l, percent."""
    back = [mean(of("mem3", defense, seed)) - mean(of("mem3", "none", seed)) for seed in _SEEDS]
    lost = [mean(of("clean", "none", seed)) - mean(of("mem3", "none", seed)) for seed in _SEEDS]
    share = sum(back) / sum(lost)
    return spread([100 * (d - share * l_) / mean(lost) for d, l_ in zip(back, lost, strict=True)], 100 * share)


def spread(values: list[float], middle: float | None = None) -> str:
    """Mean (or another middle) ± sample standard deviation."""
    return f"{mean(values) if middle is None else middle:.1f} ± {stdev(values):.1f}"


def main() -> None:
    """Print the table."""
    xeon = recalls(_RESULTS / "benchmarks" / "before-fast-paths-xeon-amx" / "records")
    epyc = recalls(_RESULTS / "benchmarks" / "before-fast-paths-amd-epyc" / "records")
    after = recalls(_RESULTS / "tiny" / "records")
    defenses = sorted({defense for _, defense, _ in epyc | xeon} - {"none"})
    rows = []
    for attack, defense in (("clean", "none"), ("mem3", "none"), *(("mem3", one) for one in defenses)):
        # A poison's cells stay together: where a defense ran on the Xeon alone, so did what it is compared with.
        before = xeon if (attack, defense, 2) not in epyc else xeon | epyc
        old, new = ([cells[attack, defense, seed] for seed in _SEEDS] for cells in (before, after))
        ways = [spread([one[way] for one in cells]) for way in (0, 1) for cells in (old, new)]
        largest = max(abs(a[way] - b[way]) for a, b in zip(old, new, strict=True) for way in (0, 1))
        shares = (
            ["–", "–"]
            if defense == "none"
            else [recovered(lambda *cell, cells=cells: cells[cell], defense) for cells in (before, after)]
        )
        rows.append([f"{attack} × {defense}", *ways, f"{largest:.1f}", *shares])
    headers = ["cell", "I→T before", "I→T after", "T→I before", "T→I after", "largest", "recov. before", "recov. after"]
    print(tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=("left", *["right"] * 7)))


if __name__ == "__main__":
    main()

"""Rankings of attacks and of defenses, by the interquartile mean of the recall kept in the matrix."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import zip_longest
from math import nan
from statistics import fmean
from typing import Any

import pandas as pd

from benchmark.tables.gates import MOST_LOSS, loss_left
from benchmark.tables.iqm import (
    DRAWS,
    LEVEL,
    Average,
    Runs,
    average_of,
    have_several_seeds,
    interval,
    iqm,
    mean,
    over_seeds,
    places,
    probability_of_less,
)
from benchmark.tables.matrix_cells import MatrixCells
from benchmark.tables.table import BEST_EPOCHS, EpochChoice, Table, best_epochs

RANK, IQM, BEATS, WORST = "rank", "IQM %", "beats next %", "worst case %"
_FEW = 5  # seeds; with fewer, intervals are rough


@dataclass(frozen=True)
class _Side:
    """Attacks ranked over defenses, or defenses over attacks."""

    found: MatrixCells
    ranked: Sequence[str]  # specs
    over: Sequence[str]
    of_attacks: bool

    def runs(self, spec: str, at: EpochChoice = "last") -> Runs:
        pairs = {other: (spec, other) if self.of_attacks else (other, spec) for other in self.over}
        found = {other: self.found.runs(*pair, at) for other, pair in pairs.items()}
        return {other: own for other, own in found.items() if own}


def rankings(found: MatrixCells) -> list[Table]:
    """Attacks, the strongest first, and defenses, the best first, each where at least two can be compared.

    Both are over the largest part of the matrix in which every cell has run and counts
    (:attr:`benchmark.tables.matrix_cells.MatrixCells.complete_part`). For attacks, defenses that left the same victims
    count once; otherwise a defense that changes nothing would count undefended victims twice. Columns: the ranks that
    the data allow; the interquartile mean (:mod:`benchmark.tables.iqm`) of the recall kept after the last epoch with
    its 95 % interval, and after :func:`benchmark.tables.table.best_epochs`; the worst case; and the gates.
    """
    attacks, defenses = found.complete_part
    once = [group[0] for group in found.same_victims]
    sides = (_Side(found, attacks, once, True), _Side(found, defenses, attacks, False))
    return [_table(side) for side in sides if len(side.ranked) > 1]


def _table(side: _Side) -> Table:
    found, block = side.found, side.found.block
    names, others = (found.attacks, found.defenses) if side.of_attacks else (found.defenses, found.attacks)
    runs = of_shared_seeds({spec: side.runs(spec) for spec in side.ranked})
    ranks = ranks_of(runs, best_keeps_most=not side.of_attacks)
    by_average = sorted(runs, key=lambda spec: average_of(runs[spec]) * (1 if side.of_attacks else -1))
    best_first = _as_ranked(by_average, ranks)
    cells: list[dict[str, Any]] = []
    for spec, behind in zip_longest(best_first, best_first[1:]):
        of: dict[str, Any] = {"row": names[spec], "n": sum(map(len, runs[spec].values()))}
        of |= {"attack": spec if side.of_attacks else "", "defense": "" if side.of_attacks else spec}
        cells += [of | rank_cell(*ranks[spec]), of | {"column": IQM} | percent(runs[spec], spec, iqm)]
        if behind is not None:
            pair = (spec, behind) if side.of_attacks else (behind, spec)
            ahead = probability_of_less(*(runs[each] for each in pair))
            cells.append(of | {"column": BEATS, "unit": "%", "mean": ahead, "text": f"{ahead:.0f}"})
        for at in best_epochs(block.of()):
            there = side.runs(spec, at)
            if all(there.get(other, {}).keys() >= own.keys() for other, own in runs[spec].items()):
                same = {other: {seed: there[other][seed] for seed in own} for other, own in runs[spec].items()}
                cells.append(of | {"column": f"best: {at}", "unit": "%", "mean": average_of(same)})
        cells += [of | cell for cell in _worst_case(side, runs[spec], others)]
        cells += [of | cell for cell in _gates(side, spec)]
    frame = cells_frame(cells)
    what, over = ("attacks", "defenses") if side.of_attacks else ("defenses", "attacks")
    return Table(
        title=f"Ranking of {what}: recall kept of clean, over {over}; {block.dataset.label}, victim "
        f"{block.victim.spec}",
        keys={"dataset": block.dataset.spec, "victim": block.victim.spec, "ranked": what},
        corner=what[:-1].capitalize(),
        rows=tuple(names[spec] for spec in best_first),
        columns={column: column for column in frame["column"]},
        cells=frame,
        seeds={},
        notes=tuple(_explained(side, runs, names, others, set(frame["column"]))),
    )


def of_shared_seeds(runs: Mapping[str, Runs]) -> Mapping[str, Runs]:
    """Of each cell the seeds that all names have there. If they share none in some cell, all seeds of all cells."""
    cells = next(iter(runs.values()))
    shared = {cell: set.intersection(*(set(own[cell]) for own in runs.values())) for cell in cells}
    if not all(shared.values()):
        return runs
    return {
        name: {cell: {seed: own[cell][seed] for seed in sorted(shared[cell])} for cell in own}
        for name, own in runs.items()
    }


def _as_ranked(names: Sequence[str], ranks: Mapping[str, tuple[int, int]]) -> list[str]:
    """Names in their order, but none before one whose ranks are all better.

    Ranks are over the seeds that all have in common; means over more seeds may order them otherwise.
    """
    rest, ordered = list(names), list[str]()
    while rest:
        best = next(spec for spec in rest if not any(ranks[other][1] < ranks[spec][0] for other in rest))
        rest.remove(best)
        ordered.append(best)
    return ordered


def ranks_of(runs: Mapping[str, Runs], *, best_keeps_most: bool, average: Average = iqm) -> dict[str, tuple[int, int]]:
    """By name the best and the worst rank that the data allow, 1 being the best; see :func:`places`."""
    ranks = places(runs, average)
    if not best_keeps_most:
        return ranks
    return {name: (len(runs) + 1 - last, len(runs) + 1 - first) for name, (first, last) in ranks.items()}


def rank_cell(first: int, last: int) -> dict[str, Any]:
    """A cell of the column of ranks."""
    text = str(first) if first == last else f"{first}–{last}"
    return {"column": RANK, "unit": "rank", "mean": (first + last) / 2, "low": first, "high": last, "text": text}


def percent(runs: Runs, name: str, average: Average) -> dict[str, Any]:
    """What a cell says of the average of some runs, with its interval."""
    found = interval(runs, name, average=average)
    return {"unit": "%", "mean": found.value, "low": found.low, "high": found.high}


_COLUMNS = ("row", "column", "measure", "unit", "attack", "defense", "mean", "std", "n", "failed", "best")


def cells_frame(cells: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Cells of a ranking as :class:`benchmark.tables.table.Table` takes them, each given by what is known of it."""
    usual = {"attack": "", "defense": "", "failed": False, "best": False}
    frame = pd.DataFrame([{**usual, **cell} for cell in cells], columns=[*_COLUMNS, "low", "high", "text"])
    return frame.assign(measure=frame["column"])


def worst_case(runs: Runs, *, of_attack: bool) -> str:
    """What an attack or a defense does worst with, by the mean recall kept over seeds.

    For an attack, the defense (or none) under which most recall is kept. For a defense, the attack under which least
    is kept. Of equals, the first by name.
    """
    means = {other: fmean(run.kept for run in own.values()) for other, own in sorted(runs.items())}
    return (max if of_attack else min)(means, key=lambda other: means[other])


def _worst_case(side: _Side, runs: Runs, others: Mapping[str, str]) -> list[dict[str, Any]]:
    worst = worst_case(runs, of_attack=side.of_attacks)
    return [
        {"column": WORST, "unit": "%", "mean": average_of({worst: runs[worst]}, mean), "n": len(runs[worst])},
        {"column": "under" if side.of_attacks else "against", "unit": "", "mean": nan, "text": others[worst]},
    ]


def _gates(side: _Side, spec: str) -> list[dict[str, Any]]:
    if side.of_attacks:
        return [
            {"column": column, "unit": "", "mean": nan, "text": str(verdicts[spec])}
            for column, verdicts in (("> noise", side.found.noise_gate), ("no weaker with ε", side.found.eps_gate))
        ]
    share = loss_left(side.found.block, spec)
    return [] if share is None else [{"column": "clean loss / ln B", "unit": "ln B", "mean": share}]


def ties(runs: Mapping[str, Runs]) -> str:
    """What ranks in common mean, which depends on what the runs share."""
    level = f"the level of {100 * LEVEL:.0f} % holds for all pairs together"
    if len(runs) == 1 or over_seeds(runs) is not None:
        return f"Ranks in common are ties: other seeds or queries alone could make such a difference ({level})."
    return (
        f"Ranks in common are ties: other queries alone could make such a difference ({level}). No two seeds are "
        "shared by all, so ranks say nothing of other seeds."
    )


def _explained(
    side: _Side, runs: Mapping[str, Runs], names: Mapping[str, str], others: Mapping[str, str], columns: Set[str]
) -> list[str]:
    found = side.found
    over_what = "seeds and queries" if any(map(have_several_seeds, runs.values())) else "queries"
    seeds = {len(cell) for own in runs.values() for cell in own.values()}
    over = ", ".join(others[spec] for spec in side.over)
    same = all(len({frozenset(own[cell]) for own in runs.values()}) == 1 for cell in side.over)
    ranked = "attacks" if side.of_attacks else "defenses"
    which = f"the seeds that all these {ranked} have there" if same else "their seeds, which differ"
    direction = "least is kept" if side.of_attacks else "most is kept"
    one, less, other = ("attack", "less", "defense") if side.of_attacks else ("defense", "more", "attack")
    alone = "One seed, so it is over queries alone, and says nothing of other seeds."
    numbers = str(min(seeds)) if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    several = f"Of {numbers} seeds a cell{', so it is rough' if min(seeds) < _FEW else ''}."
    lines = [
        f"{IQM}: interquartile mean of the recall kept of clean after the last epoch, that is the mean of the middle "
        f"half of all runs, over {over} and {which}.",
        f"In brackets: {100 * (1 - LEVEL):.0f} % bootstrap interval over {over_what}, {DRAWS:,} draws. "
        f"{alone if max(seeds) == 1 else several}",
        f"{RANK}: 1 where {direction}. {ties(runs)}",
        f"{BEATS}: probability of improvement (Agarwal et al. 2021). With a random {other}, how often does a random "
        f"seed of this {one} leave {less} recall than a random seed of the next one? 50: neither is ahead.",
    ]
    lines += [f"{head}: IQM {meaning}." for head, meaning in BEST_EPOCHS.items() if head in columns]
    if not side.of_attacks:
        lines.append(
            f"clean loss / ln B: of a clean victim's last epoch; the gate asks for at most {MOST_LOSS:g}. It is the "
            "loss that the victim descends, which some defenses change."
        )
    if side.of_attacks:
        copies = [group for group in found.same_victims if len(group) > 1]
        lines += [
            f"Counted once, as their victims are the same: {', '.join(others[each] for each in group)}."
            for group in copies
        ]
    apart = [spec for spec in names if spec not in side.ranked]
    fails = [attack for attack in found.attacks if attack not in found.competing]
    fails += [defense for defense, verdict in found.loss_gate.items() if verdict == "fails"]
    failing, missing = ([spec for spec in apart if (spec in fails) is out] for out in (True, False))
    if failing:
        named = ", ".join(names[spec] for spec in failing)
        lines.append(f"Not ranked, as a gate fails or as it is the noise that attacks are compared with: {named}.")
    if missing:
        lines.append(f"Not ranked, as some of these cells are missing: {', '.join(names[spec] for spec in missing)}.")
    return lines

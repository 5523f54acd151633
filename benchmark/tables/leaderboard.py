"""The leaderboard: accepted submissions, ranked by the worst case of each."""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean
from typing import Any

from benchmark.core.errors import UsageError
from benchmark.tables.entries import Entry, Kind, RerunCell, Stage
from benchmark.tables.iqm import DRAWS, LEVEL, Runs, average_of, iqm, mean
from benchmark.tables.ranking import (
    IQM,
    RANK,
    WORST,
    cells_frame,
    of_shared_seeds,
    percent,
    rank_cell,
    ranks_of,
    ties,
    worst_case,
)
from benchmark.tables.selection import CLEAN, UNDEFENDED
from benchmark.tables.table import Table, distinct_names

_CELL = "worst case"  # under this key the worst cells of all entries meet, whichever defenses or attacks they are of
RERUN = "re-run"


def leaderboard(entries: Sequence[Entry]) -> list[Table]:
    """Attacks, the strongest first, then defenses, the best first; each version of the rules by itself.

    An attack's worst case is the defense, or none, under which victims keep most of the clean recall; a defense's is
    the attack under which they keep least. Ranks are of the worst cases, by paired differences over seeds and queries
    (:func:`benchmark.tables.iqm.places`). Beside it the interquartile mean over all cells, the undefended victims of an
    attack or what a defense costs on clean data, time, and whether a cell was run again.

    Args:
        entries: in any order.

    Raises:
        UsageError: no entries.
    """
    if not entries:
        raise UsageError("the leaderboard has no entries yet; docs/submitting.md says how to add one")
    comparable: dict[tuple[Kind, int], list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: (entry.about.kind, -entry.rules)):
        comparable.setdefault((entry.about.kind, entry.rules), []).append(entry)
    return [_table(kind, rules, own) for (kind, rules), own in comparable.items()]


def _table(kind: Kind, rules: int, entries: Sequence[Entry]) -> Table:
    ranked = {entry.about.name: _ranked(entry) for entry in entries}
    worst = {name: worst_case(runs, of_attack=kind == "attack") for name, runs in ranked.items()}
    cases: dict[str, Runs] = {name: {_CELL: ranked[name][where]} for name, where in worst.items()}
    sign = 1 if kind == "attack" else -1
    ranks = ranks_of(of_shared_seeds(cases), best_keeps_most=kind == "defense", average=mean)
    # Ranks are over the seeds that all have in common; means over all seeds of each could order them otherwise.
    in_order = sorted(entries, key=lambda entry: (*ranks[entry.about.name],
                      sign * average_of(cases[entry.about.name], mean), entry.about.name))  # fmt: skip
    names = distinct_names([(entry.about.title, entry.about.name) for entry in in_order])
    cells: list[dict[str, Any]] = []
    for row, entry in zip(names, in_order, strict=True):
        name, runs = entry.about.name, ranked[entry.about.name]
        of: dict[str, Any] = {"row": row, kind: entry.about.spec, "n": sum(map(len, runs.values()))}
        cells.append(of | rank_cell(*ranks[name]))
        cells.append(of | {"column": WORST, "n": len(cases[name][_CELL])} | percent(cases[name], name, mean))
        cells.append(of | _text("under" if kind == "attack" else "against", worst[name]))
        cells.append(of | {"column": IQM} | percent(runs, name, iqm))
        cells += [of | cell for cell in _others(kind, entry)]
    frame = cells_frame(cells)
    return Table(
        title=f"Leaderboard of {kind}s: recall kept of clean, in %; rules {rules}",
        keys={"ranked": f"{kind}s", "rules": str(rules)},
        corner=kind.capitalize(),
        rows=tuple(names),
        columns={column: column for column in frame["column"]},
        cells=frame,
        seeds={},
        notes=(*_explained(kind, cases), *map(_of_entry, in_order)),
    )


def _ranked(entry: Entry) -> Runs:
    """The runs that rank an entry: clean data under a defense are its cost, not an attack."""
    return {other: own for other, own in entry.runs().items() if other != CLEAN}


def _text(column: str, text: str) -> dict[str, Any]:
    return {"column": column, "unit": "", "mean": nan, "text": text}


def _others(kind: Kind, entry: Entry) -> list[dict[str, Any]]:
    other, head = (UNDEFENDED, "no defense %") if kind == "attack" else (CLEAN, "clean data %")
    runs = entry.runs()[other]
    cells = [{"column": head, "unit": "%", "mean": fmean(run.kept for run in runs.values()), "n": len(runs)}]
    if kind == "attack":
        cells.append(_text("ε", f"{entry.poison.get('eps', 0):g}/255"))
        cells += [{"column": "PSNR", "unit": "dB", "mean": entry.poison["psnr"]}] if "psnr" in entry.poison else []
    stage: Stage = "craft" if kind == "attack" else "train"
    cells += [{"column": f"{stage} s", "unit": "s", "mean": entry.seconds[stage]}] if stage in entry.seconds else []
    return [*cells, _text(RERUN, _again(entry.rerun))]


def _again(rerun: RerunCell | None) -> str:
    if rerun is None:
        return "no"
    return "equal" if rerun.is_equal else f"within {rerun.low:.0f}–{rerun.high:.0f} %"


def _explained(kind: Kind, cases: Mapping[str, Runs]) -> list[str]:
    sure = f"{100 * (1 - LEVEL):.0f} %"
    worst = (
        "the defense, or none, that leaves most; the strongest attack leaves least even then"
        if kind == "attack"
        else "the attack that leaves least; the best defense leaves most even then"
    )
    time: Mapping[Kind, str] = {
        "attack": "craft s: seconds a poison, on the machine of the records.",
        "defense": "clean data %: recall that victims of clean data keep under the defense. train s: seconds a victim.",
    }
    return [
        "Recall: R@10, mean of both directions, after the last epoch, as a share of that of the clean undefended "
        "victim of the same seed.",
        f"{WORST}: mean over seeds under {worst}. The same numbers choose this case and give its value, so it reads "
        f"too {'high' if kind == 'attack' else 'low'} where several cases are close; the interval does not allow for "
        "that.",
        f"{IQM}: interquartile mean, that is the mean of the middle half of all runs.",
        f"In brackets: {sure} bootstrap interval over seeds and queries, {DRAWS:,} draws; rough, of few seeds.",
        f"{RANK}: of the worst cases. {ties(cases)}",
        time[kind],
        f"{RERUN}: one cell drawn by chance was trained again with the stored poison; equal: to the last digit; within "
        "…: on another kind of machine, and in the range shown, which is as wide as seeds differ; no: it was not.",
    ]


def _of_entry(entry: Entry) -> str:
    about = entry.about
    parts = [about.spec, about.authors, about.licence, about.link, f"accepted {entry.accepted}, rules {entry.rules}"]
    if (again := entry.rerun) is not None:
        allowed = "" if again.is_equal else f" (accepted {again.low:.1f} to {again.high:.1f})"
        drawn = f"drawn by {again.draw} ({again.drawn})"
        parts.append(f"re-run of {again.cell}: {again.found:.1f} for {again.recorded:.1f}{allowed}, {drawn}")
    if entry.plugin == "not run":
        parts.append("its own code was not run, so that its addresses were not recomputed")
    return f"{about.title} ({about.name}): {'; '.join([*parts, *([about.notes] if about.notes else [])])}."

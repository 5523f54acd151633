"""The matrix attack × defense: how much of the clean recall a victim keeps; and the ranking that it gives."""

from collections.abc import Iterable

import pandas as pd

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record
from benchmark.tables.chance import near_chance
from benchmark.tables.gates import LEARN, Verdict, kept_undefended, learning
from benchmark.tables.matrix_cells import CLEAN_ROW, NO_DEFENSE, MatrixCells
from benchmark.tables.notes import notes
from benchmark.tables.ranking import rankings
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, blocks
from benchmark.tables.shares import KEPT, MEANINGFUL, is_ranked, kept, lost, observe_shares, unpaired
from benchmark.tables.table import Caution, Observation, Table, all_of, summarise


def matrix(records: Iterable[Record]) -> list[Table]:
    """For each data set and victim the attacks that met a defense, under every defense that ran; then rankings.

    Rows: the attacks, then clean data; a note names the attacks that met no defense. Columns: no defense, then the
    defenses. Cells: recall kept of clean after the last epoch. Marked are the defense that undoes most of
    each attack and the strongest attack against each defense. A cell counts only while no gate fails
    (:mod:`benchmark.tables.gates`); those that do not are in brackets. Cells that did not run stay empty. Rankings:
    :func:`benchmark.tables.ranking.rankings`.

    Args:
        records: of any runs.

    Raises:
        UsageError: nothing met a defense, no clean victim is done, or records that mix settings.
    """
    found = [MatrixCells(block) for block in blocks(records) if _has_clean(block)]
    tables = [table for cells in found if len(cells.defenses) > 1 for table in (_table(cells), *rankings(cells))]
    if not tables:
        raise UsageError("these records hold no defended victim beside a clean one; the matrix needs both")
    return tables


def _has_clean(block: Block) -> bool:
    return any(record.status == "done" for record in block.of(CLEAN, UNDEFENDED))


def _table(found: MatrixCells) -> Table:
    block = found.block
    clean = block.of(CLEAN, UNDEFENDED)
    rows = {**found.attacks, CLEAN: CLEAN_ROW}
    observations: list[Observation] = []
    for attack, row in rows.items():
        for defense, column in found.defenses.items():
            records = block.of(attack, defense)
            observations += observe_shares(records, row, column, KEPT, kept(records, clean))
    cells = summarise(observations)
    missing = [attack for attack in found.competing if not lost(block.of(attack, UNDEFENDED), clean)]
    unranked = [attack for attack in found.competing if not is_ranked(block.of(attack, UNDEFENDED), clean)]
    weak = [attack for attack in unranked if attack not in missing]
    return Table(
        title=f"Matrix: recall kept of clean, in %; {block.dataset.label}, victim {block.victim.spec}",
        keys={"dataset": block.dataset.spec, "victim": block.victim.spec},
        corner="Attack",
        rows=tuple(rows.values()),
        columns={name: name for name in found.defenses.values()},
        cells=_marked(cells, found, weak),
        seeds={},
        notes=tuple(
            notes(
                [attack for attack in block.attacks if attack.spec in rows],
                [record for record in block.of() if record.attack.spec in rows],
                _explained(found, weak, missing),
            )
        ),
    )


def _marked(cells: pd.DataFrame, found: MatrixCells, weak: list[str]) -> pd.DataFrame:
    """Cells with what counts; ``best`` marks one of an attack's defenses, ``strongest`` one of a defense's attacks."""
    counts = [found.counts(*pair) for pair in zip(cells["attack"], cells["defense"], strict=True)]
    cells = cells.assign(counts=counts)
    judged = cells[cells["counts"] & cells["attack"].isin(found.competing) & cells["mean"].notna()]
    # A defense is marked only if it brings recall back, and only against attacks that take enough recall.
    helps = [_helps(found, *pair) for pair in zip(judged["attack"], judged["defense"], strict=True)]
    helping = judged[pd.Series(helps, judged.index, dtype=bool) & ~judged["attack"].isin(weak)]
    best = helping["mean"] == helping.groupby("attack")["mean"].transform("max")
    # A single attack is not marked as the strongest: there is no other to compare it with.
    column = judged.groupby("defense")["mean"]
    strongest = (judged["mean"] == column.transform("min")) & (column.transform("size") > 1)
    return cells.assign(
        best=best.reindex(cells.index, fill_value=False), strongest=strongest.reindex(cells.index, fill_value=False)
    )


def _helps(found: MatrixCells, attack: str, defense: str) -> bool:
    """Whether more is kept under a defense than without it, on the seeds that both have."""
    defended, undefended = found.runs(attack, defense), found.runs(attack, UNDEFENDED)
    shared = defended.keys() & undefended.keys()
    return sum(defended[seed].kept - undefended[seed].kept for seed in shared) > 0


def _explained(found: MatrixCells, weak: list[str], missing: list[str]) -> list[str]:
    block = found.block
    lines = [
        "After the last epoch: share of the R@10 (mean of both directions) of the clean, undefended victim of the same "
        "seed. 0: nothing is left; 100: as good as clean.",
        f"Bold: the defense that brings back most of what an attack takes. Italics: the strongest attack of this table "
        f"against a defense, or with {NO_DEFENSE.lower()}, where there are several.",
        "Victims of one seed are paired, so ± is the spread of the share itself, not of the seeds' recall.",
    ]
    if weak and not near_chance(block.of(CLEAN, UNDEFENDED)):
        names = ", ".join(found.attacks[attack] for attack in weak)
        lines.append(f"Nothing is bold where the attack takes less than {MEANINGFUL} % of the clean recall: {names}.")
    if missing:
        names = ", ".join(found.attacks[attack] for attack in missing)
        lines.append(f"Nothing is bold where no seed has both an undefended victim and a clean one: {names}.")
    if found.undefended:
        lines.append(f"Ran only without a defense; see table 'attacks': {', '.join(found.undefended)}.")
    clean = block.of(CLEAN, UNDEFENDED)
    rows = {**found.attacks, CLEAN: CLEAN_ROW}
    shown = [record for record in block.records if record.attack.spec in rows]
    seeds = {
        f"{rows[attack]} × {found.defenses[defense]}": all_of(sorted(kept(block.of(attack, defense), clean)))
        for attack, defense in dict.fromkeys((record.attack.spec, record.defense.spec) for record in shown)
    }
    told = [text for text in seeds.values() if text != "none"]
    usual = max(dict.fromkeys(told), key=told.count, default="none")
    others = [f"{cell}: {text}" for cell, text in seeds.items() if text != usual]
    lines += [Caution(f"Seeds other than {usual}: {'; '.join(others)}.")] if others else []
    return [*lines, *unpaired(shown, clean), *_gates(found)]


def _gates(found: MatrixCells) -> list[str]:
    """For each gate what fails, which puts cells in brackets, and what the records do not show."""
    gates = (
        ("clearly stronger than uniform noise of the same ε, without a defense", found.attacks, found.noise_gate),
        ("no weaker with larger ε, without a defense", found.attacks, found.eps_gate),
        (LEARN, found.defenses, found.loss_gate),
    )
    lines: list[str] = []
    for gate, names, verdicts in gates:
        wanted: tuple[Verdict, ...] = ("fails", "not shown")
        failed, unknown = ([spec for spec in names if verdicts[spec] == one] for one in wanted)
        if failed:
            measured = learning if gate == LEARN else kept_undefended
            named = "; ".join(f"{names[spec]}: {measured(found.block, spec)}" for spec in failed)
            lines.append(Caution(f"In brackets, as a gate fails ({gate}): {named}."))
        if unknown:
            every = "all defenses" if gate == LEARN else "all attacks"
            who = every if len(unknown) == len(names) > 1 else ", ".join(names[spec] for spec in unknown)
            lines.append(f"Gate not shown by these records ({gate}): {who}.")
    return lines

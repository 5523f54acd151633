"""The matrix attack × defense: how much of the lost recall each defense brings back."""

from collections.abc import Iterable

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record
from benchmark.tables.attacks import in_row_order
from benchmark.tables.chance import near_chance
from benchmark.tables.notes import notes
from benchmark.tables.published import in_order
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, blocks
from benchmark.tables.shares import (
    KEPT,
    LOST,
    MEANINGFUL,
    RECOVERED,
    is_ranked,
    kept,
    lost,
    observe_shares,
    recovered,
)
from benchmark.tables.table import Observation, Table, distinct_names, mark_best, ranges, summarise

CLEAN_ROW = "Clean data: kept %"


def matrix(records: Iterable[Record]) -> list[Table]:
    """Every attack that ran against every defense that ran: one table for every data set and victim.

    Rows: the attacks. Columns: the share of the clean recall that the attack takes without a defense, and the share of
    that loss that each defense recovers. A last row shows the share that a victim of clean data keeps under each
    defense. The defense that recovers most is the worst news for an attack, and is marked. Cells that did not run stay
    empty.

    Args:
        records: of any runs.

    Raises:
        UsageError: nothing met a defense, no clean victim is done, or records that mix settings.
    """
    tables = [_table(block) for block in blocks(records) if _defenses(block) and _has_clean(block)]
    if not tables:
        raise UsageError("these records hold no defended victim beside a clean one; the matrix needs both")
    return tables


def _defenses(block: Block) -> list[str]:
    return in_order({record.defense.spec for record in block.records} - {UNDEFENDED})


def _has_clean(block: Block) -> bool:
    return any(record.status == "done" for record in block.of(CLEAN, UNDEFENDED))


def _table(block: Block) -> Table:
    clean, chance = block.of(CLEAN, UNDEFENDED), near_chance(block.of(CLEAN, UNDEFENDED))
    specs = {attack.spec: attack for attack in block.attacks}
    attacks = [specs[spec] for spec in in_row_order(specs)]
    defenses = {record.defense.spec: record.defense for record in block.records}
    columns = {spec: spec if "[" in spec else defenses[spec].label for spec in _defenses(block)}
    columns = dict(zip(columns, distinct_names([(name, spec) for spec, name in columns.items()]), strict=True))
    rows = distinct_names([(attack.title, attack.spec) for attack in attacks])
    observations: list[Observation] = []
    ranked: list[str] = []
    unranked: list[str] = []
    for attack, row in zip(attacks, rows, strict=True):
        undefended = block.of(attack.spec, UNDEFENDED)
        observations += observe_shares(undefended, row, LOST, LOST, lost(undefended, clean))
        if len({record.defense.spec for record in block.of(attack.spec)}) > 1:
            (ranked if not chance and is_ranked(undefended, clean) else unranked).append(row)
        for spec, name in columns.items():
            defended = block.of(attack.spec, spec)
            observations += observe_shares(defended, row, name, RECOVERED, recovered(defended, undefended, clean))
    for spec, name in columns.items():
        under_defense = block.of(CLEAN, spec)
        observations += observe_shares(under_defense, CLEAN_ROW, name, KEPT, kept(under_defense, clean))
    cells = mark_best(summarise(observations), ranked, columns.values(), within="row")
    shown = [record for spec in (UNDEFENDED, *columns) for record in block.of(defense=spec)]
    has_costs = any(block.of(CLEAN, spec) for spec in columns)
    return Table(
        title=f"Matrix: lost recall that each defense recovers; {block.dataset.label}, victim {block.victim.spec}",
        keys={"dataset": block.dataset.spec, "victim": block.victim.spec},
        corner="Attack",
        rows=(*rows, *([CLEAN_ROW] if has_costs else [])),
        columns={LOST: LOST} | {name: name for name in columns.values()},
        cells=cells,
        seeds={},
        notes=tuple(notes(attacks, shown, _explained(block, unranked, chance))),
    )


def _explained(block: Block, unranked: list[str], chance: str) -> list[str]:
    lines = [
        "lost: share of the clean victim's R@10 that the attack takes without a defense. Other columns: share of that "
        "loss that the defense recovers (100: as good as clean, 0: no help); in bold the defense that recovers most.",
        f"{CLEAN_ROW.partition(':')[0]}: share of the R@10 that a victim of clean data keeps under the defense.",
        "Victims of one seed are paired, so ± is the spread of the share itself, not of the seeds' recall.",
    ]
    if unranked and not chance:
        lines.append(
            f"Not ranked, as the attack takes less than {MEANINGFUL} % of the clean recall: {', '.join(unranked)}."
        )
    seeds = {
        (record.attack.spec, record.defense.spec): ranges(
            sorted(r.seed for r in block.of(record.attack.spec, record.defense.spec) if r.status == "done")
        )
        for record in block.records
    }
    usual = max(set(seeds.values()), key=list(seeds.values()).count)
    others = [f"{attack} × {defense} {text}" for (attack, defense), text in seeds.items() if text != usual]
    return [*lines, *([f"Seeds other than {usual}: {'; '.join(others)}."] if others else [])]

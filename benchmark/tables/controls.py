"""Controls: what the halves of a poison do alone, and what noise and words do that nobody crafted."""

from collections.abc import Iterable

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.grid.records import Record
from benchmark.tables.defenses import BEST, LAST, recall_by_seed
from benchmark.tables.notes import notes
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, blocks
from benchmark.tables.table import Observation, Table, distinct_names, observe, seeds_by_row, summarise

# These have rows whether they ran or not; other undefended attacks follow.
ROWS = {
    CLEAN: "Clean",
    "mem3": "MEM-3",
    "em": "EM",
    "delta-only": "Delta only",
    "trigger-only": "Trigger only",
    "uniform-noise": "Uniform noise",
    "random-trigger": "Random trigger",
    "em-official": "EM (em-official)",
    "mem-official": "MEM-3 (mem-official)",
}
LOST = "lost %"


def controls(records: Iterable[Record]) -> list[Table]:
    """Undefended victims of every attack and control: one table for every data set and victim.

    Columns: R@10 and Medr after the last epoch, R@10 after the epoch that is best on val, and the share of the clean
    victim's recall that is lost.

    Args:
        records: of any runs; defended ones are left out.

    Raises:
        UsageError: no undefended attack, or records that mix settings.
    """
    found = blocks(record for record in records if record.defense.spec == UNDEFENDED)
    tables = [_table(block) for block in found if block.attacks]
    if not tables:
        raise UsageError("these records hold no undefended attack; the table of controls needs one")
    return tables


def _table(block: Block) -> Table:
    # A variant, its parameters written out, takes the place of the plain attack that did not run.
    variants = {parse_spec(attack.spec).name for attack in block.attacks}
    rows = {spec: name for spec, name in ROWS.items() if block.of(spec) or spec not in variants}
    rows |= {attack.spec: attack.title for attack in block.attacks}
    place = {spec: number for number, spec in enumerate(rows)}
    rows = dict(sorted(rows.items(), key=lambda row: (_known(row[0]), place[row[0]])))
    names = distinct_names([(name, spec) for spec, name in rows.items()])
    rows = dict(zip(rows, names, strict=True))
    full = recall_by_seed(block.of(CLEAN))
    observations: list[Observation] = []
    for spec, name in rows.items():
        for record in block.of(spec):
            observations += [observe(record, name, one.name, one) for one in (*LAST, *BEST)]
            observations.append(_lost(record, name, full.get(record.seed)))
    columns = {one.name: one.name for one in LAST} | {one.name: one.name.replace("R@10 ", "") for one in BEST}
    explained = [
        "Undefended victims, after the last epoch; best: R@10 after the epoch that is best on val.",
        "lost: of the R@10 of the clean victim of the same seed, mean of both directions, the share that is gone.",
        "Delta only, Trigger only: one half of the very poison that MEM-3 is for that seed, the other half dropped.",
    ]
    missing = [name for spec, name in rows.items() if not block.of(spec)]
    if missing:
        explained.append(f"Not run: {', '.join(missing)}.")
    return Table(
        title=f"Controls: where the poison's power sits; {block.dataset.label}, victim {block.victim.spec}",
        keys={"dataset": block.dataset.spec, "victim": block.victim.spec},
        corner="Attack",
        rows=tuple(rows.values()),
        columns={**columns, LOST: LOST},
        cells=summarise(observations),
        seeds=seeds_by_row({name: block.of(spec) for spec, name in rows.items()}),
        notes=tuple(notes(block.attacks, block.of(), explained)),
    )


def _known(spec: str) -> int:
    """The place of an attack's name among the rows that are always there; after them for another."""
    names = list(ROWS)
    name = parse_spec(spec).name
    return names.index(name) if name in names else len(names)


def _lost(record: Record, row: str, clean: float | None) -> Observation:
    """Share of the clean recall that is gone, percent; seeds are paired."""
    own = recall_by_seed([record]).get(record.seed)
    value = 100 * (1 - own / clean) if own is not None and clean else None
    failed = record.status == "failed"
    return Observation(row, LOST, LOST, "%", record.attack.spec, record.defense.spec, value, failed)

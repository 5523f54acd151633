"""Table 2: an attack against defenses."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmark.core.registry import label_of
from benchmark.core.spec import parse_spec, split_outside_brackets
from benchmark.grid.records import Record, ResolvedSpec
from benchmark.tables.chance import near_chance
from benchmark.tables.notes import notes, poison_notes
from benchmark.tables.published import beside, in_order, paper_defenses, paper_notes, published
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, blocks
from benchmark.tables.shares import (
    KEPT,
    MEANINGFUL,
    RECOVERED,
    is_ranked,
    kept,
    lost,
    observe_shares,
    recovered,
    unpaired,
)
from benchmark.tables.table import (
    BEST,
    BEST_TERMS,
    FINER,
    LAST,
    RECALLS,
    Observation,
    Table,
    all_of,
    distinct_names,
    done_seeds,
    mark_best,
    observe,
    score_columns,
    seeds_by_row,
    summarise,
    unrun,
)

_TERMS = {
    **BEST_TERMS,
    f"clean {RECALLS[0].name}": "clean: R@10 of a victim that trains on clean data under the same defense.",
    KEPT: "clean %: share of the clean victim's R@10 (mean of both directions) that is left under the defense.",
    RECOVERED: "recov.: share of the lost R@10 (mean of both directions) that the defense recovers, summed over seeds.",
}


@dataclass(frozen=True)
class _Row:
    """A line of the table: an attack (or clean data) under a defense, by their specs."""

    name: str
    attack: str
    defense: str
    records: list[Record]


def table2(records: Iterable[Record], *, beside_paper: bool = False) -> list[Table]:
    """An attack against defenses: one table for every data set, victim and attack that met a defense.

    If only clean data met defenses, clean data have a table in place of an attack. An attack that met no defense is
    left to the table of attacks; it has a table here only if no attack met a defense.

    Rows: clean data, the undefended attack, each defense. Columns:

    - the paper's four after the last epoch: R@10 and Medr in both directions,
    - R@1, where R@10 saturates,
    - R@10 after the epoch that is best on clean validation data, which a scraper lacks, and after the epoch that is
      best on protected data, which a scraper has,
    - where clean data met defenses, the clean victim's R@10 under each defense and the share of recall that it keeps,
    - the share of the lost recall that the defense recovers, where the attack takes enough.

    Args:
        records: of any runs.
        beside_paper: set the paper's values and the differences beside the four columns that it has; markdown and LaTeX
            then show only these, CSV and JSON keep all.

    Raises:
        UsageError: no records, or records that mix settings.
    """
    found = blocks(records)
    # Without an attack, the table shows what the defenses cost clean data.
    places = [(block, attack) for block in found for attack in block.attacks or [block.of(CLEAN)[0].attack]]
    met = [(block, attack) for block, attack in places if _defended(block, attack)]
    # So does a table of clean data where clean data met defenses, but no attack on the same victim did.
    waiting = [block for block in found if block.of(CLEAN) and not any(block is other for other, _ in met)]
    alone = [(block, clean) for block in waiting if _defended(block, clean := block.of(CLEAN)[0].attack)]
    return [_table(block, attack, beside_paper) for block, attack in [*alone, *(met or places)]]


def _table(block: Block, attack: ResolvedSpec, beside_paper: bool) -> Table:
    defended = _defended(block, attack)
    not_run = _not_run(defended, attack) if defended else []
    if beside_paper and attack.spec != CLEAN and attack.label in {row["attack"] for row in published(2)["rows"]}:
        # The paper's value is shown, and that ours is missing.
        by_spec = {row.defense: row for row in (*defended, *not_run)}
        defended = [by_spec[spec] for spec in in_order(by_spec)]
    rows = _rows(block, attack, defended)
    columns = _columns(block, rows)
    shown = [record for row in rows for record in row.records]
    if KEPT in columns:
        shown += [one for row in rows if row.defense != UNDEFENDED for one in block.of(CLEAN, row.defense)]
    observations: list[Observation] = []
    for row in rows:
        observations += _observations(block, row, rows, columns)
        if beside_paper and not row.records:
            observations += [unrun(row.name, one.name, one, row.attack, row.defense) for one in LAST]
    judged, unranked = _judged(rows, columns)
    cells = mark_best(summarise(observations), [row.name for row in rows if row.defense != UNDEFENDED], judged)
    explained = [f"After the last epoch{'; bold: the best defense in a column' if judged else ''}."]
    if beside_paper:
        cells = beside(cells, 2, {CLEAN: "Clean", attack.spec: attack.label})
        explained += paper_notes(2)
    else:
        explained += [text for column, text in _TERMS.items() if column in columns]
        explained += unranked
        explained += [f"Not run: {', '.join(row.name for row in not_run)}."] if not_run else []
        explained += _other_seeds(block, rows) if KEPT in columns else []
        explained += unpaired(shown, rows[0].records) if {KEPT, RECOVERED} & columns.keys() else []
        explained += poison_notes([attack], block.of(attack.spec))
    return Table(
        title=f"Table 2: {attack.title} against defenses; {block.dataset.label}, victim {block.victim.spec}",
        keys={"dataset": block.dataset.spec, "victim": block.victim.spec, "attack": attack.spec},
        corner="Defense",
        rows=tuple(row.name for row in rows),
        columns={one.name: one.name for one in LAST} if beside_paper else columns,
        cells=cells,
        seeds=seeds_by_row({row.name: row.records for row in rows}),
        notes=tuple(notes([attack], shown, explained)),
        beside="columns" if beside_paper else None,
    )


def _judged(rows: Sequence[_Row], columns: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The columns in which defenses are ranked, and a note where there is no recovered share."""
    # Clean data lose nothing that a defense could bring back. Near chance, a note that every table has says so.
    if rows[-1].attack == CLEAN or rows[-1].defense == UNDEFENDED or near_chance(rows[0].records):
        return [], []
    scores = [one.name for one in (*LAST, *FINER, *BEST)]
    if RECOVERED in columns:
        return [*scores, RECOVERED], []
    if not any(record.status == "done" for record in rows[1].records):
        return [], [f"recov. is left out and nothing is bold, as no undefended victim of {rows[1].name} is done."]
    if not lost(rows[1].records, rows[0].records):
        which = f"an undefended victim of {rows[1].name} and a clean one"
        return scores, [f"recov. is left out, as no seed has both {which}."]
    little = f"{rows[1].name} takes less than {MEANINGFUL} % of the clean recall"
    return [], [f"recov. is left out and nothing is bold, as {little}."]


def _rows(block: Block, attack: ResolvedSpec, defended: Sequence[_Row]) -> list[_Row]:
    """Clean data, the undefended attack if there is one, the defenses; no two of one name."""
    clean = _Row("Clean", CLEAN, UNDEFENDED, block.of(CLEAN, UNDEFENDED))
    baseline = _Row(attack.title, attack.spec, UNDEFENDED, block.of(attack.spec, UNDEFENDED))
    rows = [clean, *([] if attack.spec == CLEAN else [baseline]), *defended]
    names = [(row.name, f"attack {row.attack}" if row.defense == UNDEFENDED else row.defense) for row in rows]
    return [replace(row, name=name) for row, name in zip(rows, distinct_names(names), strict=True)]


def _columns(block: Block, rows: Sequence[_Row]) -> dict[str, str]:
    """Columns with their heads: of clean victims where clean data met defenses, too; what is recovered where the attack
    takes enough of the clean victim's recall."""
    attacked = rows[-1].attack != CLEAN
    columns = score_columns(record for row in rows for record in row.records)
    if attacked and any(record.defense.spec != UNDEFENDED for record in block.of(CLEAN)):
        columns |= {f"clean {one.name}": one.name.replace("R@10", "clean") for one in RECALLS} | {KEPT: "clean %"}
    if attacked and is_ranked(rows[1].records, rows[0].records):
        columns |= {RECOVERED: "recov. %"}
    return columns


def _observations(block: Block, row: _Row, rows: Sequence[_Row], columns: Mapping[str, str]) -> Iterator[Observation]:
    """What a row says in every column that there is."""
    yield from (observe(record, row.name, one.name, one) for one in (*LAST, *FINER, *BEST) for record in row.records)
    if KEPT in columns and row.defense != UNDEFENDED:
        under_defense = block.of(CLEAN, row.defense)
        for one in RECALLS:
            yield from (observe(record, row.name, f"clean {one.name}", one) for record in under_defense)
        shares = kept(under_defense, rows[0].records)
        yield from (
            replace(one, attack=row.attack) for one in observe_shares(under_defense, row.name, KEPT, KEPT, shares)
        )
    if RECOVERED in columns:
        shares = recovered(row.records, rows[1].records, rows[0].records)
        yield from observe_shares(row.records, row.name, RECOVERED, RECOVERED, shares)


def _defended(block: Block, attack: ResolvedSpec) -> list[_Row]:
    """The defenses that met the attack."""
    found = {record.defense.spec: record.defense for record in block.of(attack.spec)}
    found.pop(UNDEFENDED, None)
    return [_Row(found[spec].title, attack.spec, spec, block.of(attack.spec, spec)) for spec in in_order(found)]


def _not_run(defended: Sequence[_Row], attack: ResolvedSpec) -> list[_Row]:
    """The paper's defenses that did not meet the attack."""
    parts = [split_outside_brackets(row.defense, "+") for row in defended]
    met = {parse_spec(own[0]).name for own in parts if len(own) == 1}
    return [_Row(label_of(name), attack.spec, name, []) for name in paper_defenses() if name not in met]


def _other_seeds(block: Block, rows: Sequence[_Row]) -> list[str]:
    """Where clean victims under a defense are of other seeds than the row."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.defense == UNDEFENDED:
            continue
        seeds = done_seeds(block.of(CLEAN, row.defense))
        if seeds and seeds != done_seeds(row.records):
            found.setdefault(all_of(seeds), []).append(row.name)
    return [
        f"clean, clean %: of {'seed' if seeds.isdigit() else 'seeds'} {seeds} under {', '.join(names)}."
        for seeds, names in found.items()
    ]

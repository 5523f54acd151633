"""Table 1: the length of the text trigger."""

import re
from collections.abc import Iterable, Mapping

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.grid.records import Record, ResolvedSpec
from benchmark.tables.notes import notes
from benchmark.tables.published import beside, paper_notes
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, undefended_blocks
from benchmark.tables.table import (
    BEST_EPOCHS,
    DIRECTIONS,
    EpochChoice,
    Kind,
    Observation,
    Table,
    best_epochs,
    measure,
    observe,
    seeds_by_row,
    summarise,
    unrun,
)

# EM and the paper's lengths have columns whether they ran or not.
LENGTHS = (0, 1, 3, 5, 7)
_NAMES = re.compile(r"em|mem\d*")
_ROWS: dict[str, tuple[Kind, EpochChoice]] = {
    "R@10": ("R@10", "last"),
    "Medr": ("Medr", "last"),
    "R@10, best on clean val": ("R@10", "clean val"),
    "Medr, best on clean val": ("Medr", "clean val"),
    "R@10, best on protected": ("R@10", "protected"),
    "Medr, best on protected": ("Medr", "protected"),
}


def table1(records: Iterable[Record], *, beside_paper: bool = False) -> list[Table]:
    """Trigger lengths against undefended victims: one table for every data set and victim.

    Rows: R@10 and Medr after the last epoch and after :func:`benchmark.tables.table.best_epochs`. Columns: clean data
    and each trigger length in both directions; EM is length 0. The paper's lengths stand there even where none ran.

    Args:
        records: of any runs; defended ones are left out.
        beside_paper: set the paper's values and the differences below ours.

    Raises:
        UsageError: no undefended attack with a trigger length, or records that mix settings.
    """
    found = [(block, by_length(block)) for block in undefended_blocks(records)]
    tables = [_table(block, lengths, beside_paper) for block, lengths in found if lengths]
    if not tables:
        raise UsageError("these records hold no undefended em or mem attack; Table 1 needs one")
    return tables


def is_mem(spec: str) -> bool:
    """Whether an attack is EM or MEM on the shared budget: no half of it, and none of the official budgets."""
    return _NAMES.fullmatch(parse_spec(spec).name) is not None


def by_length(block: Block) -> dict[int, ResolvedSpec]:
    """A block's EM and MEM attacks by trigger length, in order.

    Of several of one length it is the one in the preset's settings, whose spec has no brackets: ``mem3``, and not
    ``mem3[eps=4]``.

    Raises:
        UsageError: several attacks of one length, and not one of them is in the preset's settings.
    """
    of_length: dict[int, list[ResolvedSpec]] = {}
    for attack in block.attacks:
        if is_mem(attack.spec) and attack.params.get("k") is not None:
            of_length.setdefault(int(attack.params["k"]), []).append(attack)
    found: dict[int, ResolvedSpec] = {}
    for length, attacks in sorted(of_length.items()):
        chosen = attacks if len(attacks) == 1 else [attack for attack in attacks if "[" not in attack.spec]
        if len(chosen) != 1:
            raise UsageError(
                f"records hold several attacks of trigger length {length}: {', '.join(one.spec for one in attacks)}; "
                "give --records a folder of one setting"
            )
        found[length] = chosen[0]
    return found


def _table(block: Block, lengths: Mapping[int, ResolvedSpec], beside_paper: bool) -> Table:
    shown = {"clean": block.of(CLEAN)}
    for length in sorted({*LENGTHS, *lengths}):
        shown[f"k={length}"] = block.of(lengths[length].spec) if length in lengths else []
    columns = {f"{name} {direction}": (name, direction) for name in shown for direction in DIRECTIONS}
    # Beside the paper, what did not run here has a cell for its value.
    not_run = [length for length in LENGTHS if beside_paper and not shown[f"k={length}"]]
    unrun_specs = {f"k={length}": f"mem{length}" if length else "em" for length in not_run}
    observations: list[Observation] = []
    members = [record for records in shown.values() for record in records]
    rows = {row: what for row, what in _ROWS.items() if what[1] in ("last", *best_epochs(members))}
    for row, (kind, at) in rows.items():
        for column, (name, direction) in columns.items():
            what = measure(kind, direction, at=at)
            observations += [observe(record, row, column, what) for record in shown[name]]
            if name in unrun_specs:
                observations.append(unrun(row, column, what, unrun_specs[name], UNDEFENDED))
    cells = summarise(observations)
    explained = ["R@10, Medr: after the last epoch. k: words of the trigger; k=0 is EM, noise alone."]
    chosen = dict.fromkeys(at for _, at in rows.values() if at != "last")
    explained += [f"best on {at}: {BEST_EPOCHS[f'best: {at}']}." for at in chosen]
    missing = [name for name, records in shown.items() if not records]
    if missing:
        explained.append(f"Not run: {', '.join(missing)}.")
    kin = [attack.title for attack in block.attacks if is_mem(attack.spec) and attack not in lengths.values()]
    if kin:
        explained.append(f"Not in this table, as another setting of the same length is: {', '.join(kin)}.")
    if seeds := seeds_by_row(shown):
        explained.append(f"Seeds: {'; '.join(f'{name} {own}' for name, own in seeds.items())}.")
    if beside_paper:
        labels = {attack.spec: attack.label for attack in lengths.values()}
        labels |= {spec: "EM" if spec == "em" else f"MEM-{spec[3:]}" for spec in unrun_specs.values()}
        cells = beside(cells, 1, {CLEAN: "Clean", **labels})
        explained += paper_notes(1)
    return Table(
        title=f"Table 1: length of the text trigger; {block.dataset.label}, victim {block.victim.spec}",
        keys={"dataset": block.dataset.spec, "victim": block.victim.spec},
        corner="Metric",
        rows=tuple(rows),
        columns={column: column for column in columns},
        cells=cells,
        seeds={},
        notes=tuple(notes(list(lengths.values()), members, explained)),
        beside="rows" if beside_paper else None,
    )

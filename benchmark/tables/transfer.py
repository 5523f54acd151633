"""Transfer: the poison of one surrogate against victims of every architecture."""

from collections.abc import Iterable

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record, ResolvedSpec
from benchmark.tables.notes import notes
from benchmark.tables.selection import CLEAN, UNDEFENDED, as_shown, blocks, compare_settings
from benchmark.tables.table import LAST, RECALLS, Observation, Table, observe, seeds_by_row, summarise


def transfer(records: Iterable[Record]) -> list[Table]:
    """Surrogates against victims, undefended: one table for every data set and attack.

    Rows: clean data, and each surrogate that crafted the poison. Columns: R@10 of each victim in both directions; CSV
    and JSON hold Medr as well.

    Args:
        records: of any runs; defended ones are left out.

    Raises:
        UsageError: no attack with two surrogates or two victims, or records that mix settings other than the surrogate.
    """
    undefended = as_shown([record for record in records if record.defense.spec == UNDEFENDED])
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in undefended:
        groups.setdefault((record.dataset.spec, record.attack.spec), []).append(record)
    tables = [
        _table(own[0].attack, groups.get((dataset, CLEAN), []), own)
        for (dataset, attack), own in sorted(groups.items())
        if attack != CLEAN and len({(record.surrogate.spec, record.victim.spec) for record in own}) > 1
    ]
    if not tables:
        raise UsageError("these records hold no undefended attack with two surrogates or two victims")
    return tables


def _table(attack: ResolvedSpec, clean: list[Record], attacked: list[Record]) -> Table:
    compare_settings(f"attack {attack.spec}", [(one, one.attack.params) for one in attacked])
    rows = {"Clean": clean}
    for surrogate in sorted({record.surrogate.spec for record in attacked}):
        rows[f"from {surrogate}"] = members = [record for record in attacked if record.surrogate.spec == surrogate]
        blocks([*clean, *members])  # refuses settings that differ in anything but the surrogate
    victims = sorted({record.victim.spec for record in attacked})
    shown = {row: [record for record in own if record.victim.spec in victims] for row, own in rows.items()}
    shown = {row: sorted(own, key=lambda record: (record.victim.spec, record.seed)) for row, own in shown.items()}
    observations: list[Observation] = [
        observe(record, row, f"{record.victim.spec} {one.name}", one)
        for row, own in shown.items()
        for record in own
        for one in LAST
    ]
    columns = [f"{victim} {one.name}" for victim in victims for one in RECALLS]
    dataset = attacked[0].dataset
    members = [record for own in shown.values() for record in own]
    explained = ["After the last epoch. Rows: what crafted the poison; columns: what was trained on it, undefended."]
    by_cell = {
        f"{row} × {victim}": [record for record in own if record.victim.spec == victim]
        for row, own in shown.items()
        for victim in victims
    }
    seeds = seeds_by_row(by_cell)
    explained += [f"Seeds done: {'; '.join(f'{cell} {own}' for cell, own in seeds.items())}."] if seeds else []
    return Table(
        title=f"Transfer: {attack.title} from surrogates to victims; {dataset.label}",
        keys={"dataset": dataset.spec, "attack": attack.spec},
        corner="Poison",
        rows=tuple(shown),
        columns={column: column for column in columns},
        cells=summarise(observations),
        seeds={},
        notes=tuple(notes([attack], members, explained)),
    )

"""Cost: seconds, speed and memory of every attack under every defense."""

from collections.abc import Iterable, Mapping

from benchmark.grid.records import Record
from benchmark.tables.notes import notes
from benchmark.tables.published import in_order
from benchmark.tables.selection import CLEAN, Block, blocks
from benchmark.tables.table import Measure, Table, distinct_names, observe, seeds_by_row, summarise

_MIB = 2**20


def rows_per_second(record: Record) -> float | None:
    """Rows that the victim trained on, a second of training; ``None`` of a victim that was not trained."""
    recipe, seconds = record.recipe, record.seconds.get("train")
    rows = record.dataset.params["train_captions" if recipe["rows"] == "pairs" else "train_images"]
    if not seconds:
        return None
    # An epoch's incomplete last batch is left out.
    return float(recipe["epochs"] * (rows - rows % recipe["batch_size"]) / seconds)


def poison_mib(record: Record) -> float | None:
    """Size of δ at one byte a value, in MiB; 0 of a trigger alone; ``None`` of clean data."""
    if not record.poison:
        return None
    facts, per = record.dataset.params, record.poison.get("per")
    count = facts["train_captions" if per == "row" else "train_images"]
    return float(count * 3 * facts["resolution"] ** 2 / _MIB) if record.poison.get("psnr") is not None else 0.0


def _of_crafting(record: Record, by_stage: Mapping[str, float]) -> float | None:
    return None if record.attack.spec == CLEAN else by_stage.get("craft")


MEASURES = (
    Measure("craft s", "s", lambda record: _of_crafting(record, record.seconds)),
    Measure("train s", "s", lambda record: record.seconds.get("train")),
    Measure("evaluate s", "s", lambda record: record.seconds.get("evaluate")),
    Measure("rows/s", "rows/s", rows_per_second),
    Measure("δ MiB", "MiB", poison_mib),
    Measure("peak MiB, craft", "MiB", lambda record: _of_crafting(record, record.peak_memory_mb)),
    Measure("peak MiB, train", "MiB", lambda record: record.peak_memory_mb.get("train")),
)


def cost(records: Iterable[Record]) -> list[Table]:
    """What each attack and defense costs: one table for every data set and victim.

    Args:
        records: of any runs.

    Raises:
        UsageError: no records, or records that mix settings.
    """
    return [_table(block) for block in blocks(records)]


def _table(block: Block) -> Table:
    clean = block.of(CLEAN)
    attacks = [*([clean[0].attack] if clean else []), *block.attacks]
    named: list[tuple[str, str]] = []
    members: list[list[Record]] = []
    for attack in attacks:
        defenses = {record.defense.spec: record.defense for record in block.of(attack.spec)}
        for spec in in_order(defenses):
            named.append((f"{attack.title} × {defenses[spec].title}", f"{attack.spec} × {spec}"))
            members.append(block.of(attack.spec, spec))
    rows = dict(zip(distinct_names(named), members, strict=True))
    explained = [
        "craft: seconds a poison, once however many victims share it; of a half, those of its whole.",
        "rows/s: image–caption rows the victim trained on, a second of training.",
        "δ: one byte a value, triggers not counted.",
        "peak: highest memory of the whole process up to the end of a stage, earlier cells of the same run included.",
        "Cells ran as their provenance says, perhaps several at a time: compare seconds with care.",
    ]
    return Table(
        title=f"Cost: seconds, speed and memory; {block.dataset.label}, victim {block.victim.spec}",
        keys={"dataset": block.dataset.spec, "victim": block.victim.spec},
        corner="Attack × defense",
        rows=tuple(rows),
        columns={one.name: one.name for one in MEASURES},
        cells=summarise(
            observe(record, row, one.name, one) for row, own in rows.items() for one in MEASURES for record in own
        ),
        seeds=seeds_by_row(rows),
        notes=tuple(notes(block.attacks, block.of(), explained)),
    )

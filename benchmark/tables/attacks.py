"""Attacks without a defense: crafted poisons, the halves of a poison, and noise and words drawn at random."""

from collections.abc import Iterable
from math import ceil, log

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.grid.records import Record
from benchmark.tables.notes import notes, poison_notes
from benchmark.tables.probed import probe_measures
from benchmark.tables.selection import CLEAN, ROWS, Block, flatten, params_with_inner, undefended_blocks
from benchmark.tables.shares import LOST, lost, observe_shares, unpaired
from benchmark.tables.table import (
    BEST,
    BEST_TERMS,
    FINER,
    LAST,
    Measure,
    Observation,
    Table,
    distinct_names,
    observe,
    score_columns,
    seeds_by_row,
    summarise,
)

CONTROLS = ("delta-only", "trigger-only", "trigger-uniform", "uniform-noise", "random-trigger", "same-words")
_ONLY_IF_RUN = ("em-official", "mem-official")  # hours on a CPU
_VISIBILITY = (
    Measure("PSNR", "dB", lambda record: record.poison.get("psnr")),
    Measure("SSIM", "SSIM", lambda record: record.poison.get("ssim")),
)
_CRAFTING = Measure("crafting loss", "nats", lambda record: (record.poison.get("loss_per_round") or [None])[-1])


def attacks(records: Iterable[Record]) -> list[Table]:
    """Undefended victims of every attack: one table for every data set and victim.

    Columns: R@10 and Medr after the last epoch, R@1 where R@10 saturates, R@10 after the epochs that are best on clean
    validation data and on protected data, the share of the clean victim's recall that is lost, the loss with which
    crafting ended, how visible the noise is, and what probes read from the poison, if any was probed.

    Args:
        records: of any runs; defended ones are left out.

    Raises:
        UsageError: no undefended attack, or records that mix settings.
    """
    tables = [_table(block) for block in undefended_blocks(records) if block.attacks]
    if not tables:
        raise UsageError("these records hold no undefended attack; the table of attacks needs one")
    return tables


def _table(block: Block) -> Table:
    # A variant, its parameters written out, takes the place of the plain attack that did not run.
    variants = {parse_spec(attack.spec).name for attack in block.attacks}
    optional = {*variants, *_ONLY_IF_RUN}
    rows = {CLEAN: ROWS[CLEAN]} if block.of(CLEAN) else {}
    rows |= {attack.spec: ROWS.get(attack.spec, attack.title) for attack in block.attacks}
    names = distinct_names([(name, spec) for spec, name in rows.items()])
    rows = dict(zip(rows, names, strict=True))
    observations: list[Observation] = []
    # Records from before SSIM was measured say PSNR in a note.
    visible = _VISIBILITY if any(record.poison.get("ssim") is not None for record in block.of()) else ()
    crafted = [_CRAFTING] if any(_CRAFTING.of(record) is not None for record in block.of()) else []
    of_poisons = [*crafted, *visible, *probe_measures(block.of())]
    for spec, name in rows.items():
        for record in block.of(spec):
            observations += [observe(record, name, one.name, one) for one in (*LAST, *FINER, *BEST, *of_poisons)]
        observations += observe_shares(block.of(spec), name, LOST, LOST, lost(block.of(spec), block.of(CLEAN)))
    columns = {**score_columns(block.of()), LOST: LOST}
    explained = [
        "Undefended victims, after the last epoch.",
        *(text for column, text in BEST_TERMS.items() if column in columns),
        "lost: share of the R@10 of the clean victim of the same seed (mean of both directions) that the attack takes.",
        *unpaired(block.of(), block.of(CLEAN)),
    ]
    if crafted:
        explained.append(
            "crafting loss: of the last surrogate at the end, or of the generator. Where it is near chance (the "
            f"logarithm of the crafting batch{_chances(block.of())}), the surrogates have learned nothing from the "
            "poison. TAP's is towards other images' captions; near chance, its noise has not moved images there."
        )
    if rows.keys() & {"delta-only", "trigger-only", "trigger-uniform"}:
        explained.append(
            "Delta only, Trigger only: one half of the MEM-3 poison of that seed; the other half is dropped. Trigger + "
            "uniform: its trigger with uniform noise of the same ε in place of its own. What MEM's noise is worth "
            "shows beside these two, not in Delta only."
        )
    missing = [name for spec, name in ROWS.items() if spec not in rows and spec not in optional]
    if missing:
        explained.append(f"Not run: {', '.join(missing)}.")
    explained += poison_notes(block.attacks, block.of())
    return Table(
        title=f"Attacks: what each takes from an undefended victim; {block.dataset.label}, victim {block.victim.spec}",
        keys={"dataset": block.dataset.spec, "victim": block.victim.spec},
        corner="Attack",
        rows=tuple(rows.values()),
        columns={**columns, **{one.name: one.name for one in of_poisons}},
        cells=summarise(observations),
        seeds=seeds_by_row({name: block.of(spec) for spec, name in rows.items()}),
        notes=tuple(notes(block.attacks, block.of(), explained)),
    )


def _chances(records: Iterable[Record]) -> str:
    """What chance is on the batches that poisons were crafted on, as far as the records say.

    Losses are of batches that are full, or of equal parts of all rows, which may be a little smaller.
    """
    least: dict[int, float] = {}
    for record in records:
        params = flatten(params_with_inner(record.attack)) if _CRAFTING.of(record) is not None else {}
        rows = record.dataset.params["train_captions" if record.poison.get("per") == "row" else "train_images"]
        for name, size in params.items():
            # A plug-in may mean something else by the name.
            if name.rpartition(".")[2] == "batch_size" and isinstance(size, int) and size > 1:
                least[size] = min(least.get(size, size), rows / ceil(rows / size))
    ranges = {size: sorted({f"{log(part):.2f}" for part in (least[size], size)}) for size in sorted(least)}
    return "".join(f", {' to '.join(nats)} nats for {size}" for size, nats in ranges.items())

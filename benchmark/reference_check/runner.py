"""What ``check`` runs: fresh seeds of preset ``micro`` beside reference records, or a new reference."""

import logging
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.core.atomic_files import make_folder, replacing, temporary_folder
from benchmark.core.cache_dir import cache_folder
from benchmark.core.errors import UsageError
from benchmark.core.locks import claimed
from benchmark.core.printing import show
from benchmark.grid.provenance import git_commit
from benchmark.grid.records import Record, load_records
from benchmark.grid.run import OnPlan, run
from benchmark.grid.settings import RunSettings
from benchmark.reference_check import PRESET, known_answers
from benchmark.reference_check.intervals import LEAST_SEEDS, Comparison, compare, is_in_doubt, require_comparable
from benchmark.reference_check.pages import comparison_table, reference_page, seeds_table

_log = logging.getLogger(__name__)

# Attacks, defenses, victims: clean data, both attacks, and a defense of each kind: on captions, on images, adversarial.
# What undefended MEM-3 leaves is the strength that the check is for, so three victims of each seed measure it: one
# victim in some twenty learns more than others from the very same poison.
_GRIDS = (
    ("mem3", "none", "micro,micro[repeat=2],micro[repeat=3]"),
    ("em-wordwise", "none", "micro"),
    ("mem3", "prefix-drop,cutout", "micro"),
    ("clean", "adv-training", "micro"),
)

_MORE = 2  # more fresh seeds for each that is in doubt


def compare_fresh(folder: Path, count: int, level: float, how: RunSettings, out: Path | None) -> int:
    """Run fresh seeds and print how they compare with the reference.

    If they are in doubt, twice as many more are run, and all of them together decide.

    Args:
        folder: of the reference.
        count: how many fresh seeds at first.
        level: false-alarm probability.
        how: gives the device, the engine and the plugins, and whether the fresh seeds run on open_clip's own modules;
            the reference is on the fast paths.
        out: folder that keeps the fresh records; ``None``: nowhere.

    Returns:
        0 if every number lies in its interval, 1 if not or if a cell failed.

    Raises:
        UsageError: no reference, or one of other cells or settings, found before anything runs.
    """
    reference = _reference(folder)
    cache = cache_folder()
    make_folder(cache)
    fresh: list[Record] = []
    compared: list[Comparison] = []
    # There, because the nodes of a cluster may share the cache, but no folder of the system's for temporary files.
    with temporary_folder(cache, "check") as temporary:
        for more in (count, _MORE * count):
            if fresh:
                _log.info("no number lies far outside: %d more seeds decide", more)
            seeds = _fresh_seeds(more, [*reference, *fresh])
            # Crafted here and now, whatever the cache holds.
            fresh += _run(
                ",".join(map(str, seeds)) + ",",
                out or temporary,
                temporary / "poisons",
                how,
                lambda planned: require_comparable(reference, planned),
                [*reference, *fresh],
            )
            if any(record.status == "failed" for record in fresh):
                return 1
            compared = [*compare(reference, fresh, level), *known_answers.of_metrics()]
            show(*comparison_table(compared, fresh, reference, level).split("\n"))
            if not is_in_doubt(reference, fresh, level):
                break
    return 0 if all(number.holds for number in compared) else 1


def replay(folder: Path, records: Path, level: float) -> int:
    """Compare kept records with the reference, each seed as a check of its own; runs nothing.

    Where a seed is in doubt, the two that follow it, or the first ones after the last, decide with it.

    Args:
        folder: of the reference.
        records: of fresh seeds.
        level: false-alarm probability.

    Returns:
        0 if every seed passes, else 1.

    Raises:
        UsageError: no reference, or no records.
    """
    reference, fresh = _reference(folder), load_records(records)
    seeds = sorted({record.seed for record in fresh})
    if not seeds:
        raise UsageError(f"--records: {records} holds no records")
    judged: dict[tuple[int, ...], list[Comparison]] = {}
    for position in range(len(seeds)):
        for count in (1, 1 + _MORE):
            together = tuple((seeds[position:] + seeds[:position])[:count])
            chosen = [record for record in fresh if record.seed in together]
            judged[together] = compare(reference, chosen, level)
            if not is_in_doubt(reference, chosen, level):
                break
    show(*seeds_table(judged).split("\n"))
    passed = sum(all(number.holds for number in compared) for compared in judged.values())
    return 0 if passed == len(seeds) else 1


def update(folder: Path, count: int | None, how: RunSettings) -> int:
    """Make a new reference: craft all poisons, run all cells, and then replace the old reference.

    Until all cells are done, the new records lie in a hidden folder within ``folder``, named by the commit. After a
    killed update, the same command goes on from there.

    Args:
        folder: of the reference.
        count: seeds of the new reference; ``None``: as many as there are.
        how: gives the device, the engine and the plugins.

    Returns:
        0 if all is done, 1 if a cell failed.

    Raises:
        UsageError: too few seeds, records that are no reference, or code that no commit names.
    """
    commit = git_commit() or "no-commit"
    work = folder / f".update-{commit}"
    _undo_half_a_swap(folder)
    old = load_records(folder / "records") if (folder / "records").is_dir() else []
    if strangers := [record for record in old if record.provenance.get("preset") != PRESET]:
        raise UsageError(f"{folder} holds records that are no reference, such as {strangers[0].file_name()}")
    old_count = len({record.seed for record in old})
    count = max(LEAST_SEEDS, old_count) if count is None else count
    if count < LEAST_SEEDS:
        raise UsageError(f"--seeds must be at least {LEAST_SEEDS} for a reference, got {count}")
    if commit.endswith("-dirty"):
        raise UsageError("a reference names the commit that made it: commit the changes of this checkout first")
    records = _run(str(count), work / "records", work / "poisons", how)
    if any(record.status == "failed" for record in records):
        _log.info("the same command runs the failed cells again")
        return 1
    with claimed(folder / "records", wait=True):
        # Another process that shares the work may have been here before.
        if work.is_dir():
            _swap(folder, work, records)
    show(f"{folder}: a reference of {count} seeds replaces one of {old_count}")
    return 0


def grow(folder: Path, records: Path) -> int:
    """Add kept records of fresh seeds to the reference; runs nothing, and leaves seeds that it has as they are.

    Args:
        folder: of the reference.
        records: all fresh seeds that some checks have run: a choice of those that passed would narrow the intervals.

    Returns:
        0.

    Raises:
        UsageError: no reference, no records, or a seed that cannot be compared with the reference, has not all cells,
            or is of open_clip's own modules or of code that no commit names.
    """
    work = folder / ".update-grown"
    kept = load_records(records)
    if not kept:
        raise UsageError(f"--records: {records} holds no records")
    _reference(folder)
    with claimed(folder / "records", wait=True):
        reference = load_records(folder / "records")
        taken = {record.seed for record in reference}
        fresh = [record for record in kept if record.seed not in taken]
        added = {record.seed for record in fresh}
        # Seed by seed: beside a whole seed, nobody would miss the cells that a killed check has left out of another.
        for seed in sorted(added):
            require_comparable(reference, [record for record in fresh if record.seed == seed])
        keys = {record.key for record in reference}
        for record in kept:
            if record.seed in taken and record.key not in keys:
                raise UsageError(f"{record.file_name()} has a seed of the reference, but other settings")
        if not added:
            show(f"{folder}: unchanged; its {len(taken)} seeds include all of {records}")
            return 0
        for record in fresh:
            if record.provenance.get("models") == "plain" or str(record.provenance.get("commit")).endswith("-dirty"):
                raise UsageError(f"{record.file_name()} is of open_clip's own modules, or of code that no commit names")
        shutil.rmtree(work, ignore_errors=True)
        _swap(folder, work, [*reference, *fresh])
    show(f"{folder}: a reference of {len(taken | added)} seeds replaces one of {len(taken)}")
    return 0


def _swap(folder: Path, work: Path, records: Sequence[Record]) -> None:
    """Put records in the place of a reference, and write its page."""
    page = reference_page(records)
    for record in records:
        record.save(work / "reference")
    shutil.rmtree(work / "replaced", ignore_errors=True)  # of an update that was killed after its swap
    if (folder / "records").is_dir():
        (folder / "records").replace(work / "replaced")
    (work / "reference").replace(folder / "records")
    with replacing(folder / "README.md") as temporary:
        temporary.write_text(page, "utf-8")
    shutil.rmtree(work)


def _undo_half_a_swap(folder: Path) -> None:
    """Put the old records back, if an update was killed between moving them away and putting the new ones there."""
    if (folder / "records").is_dir() or not any(folder.glob(".update-*/replaced")):
        return
    with claimed(folder / "records", wait=True):
        for work in folder.glob(".update-*"):
            # Without new records, the old ones are those of an update that was killed after its swap.
            is_half = (work / "replaced").is_dir() and (work / "reference").is_dir()
            if is_half and not (folder / "records").is_dir():
                (work / "replaced").replace(folder / "records")


def _reference(folder: Path) -> list[Record]:
    _undo_half_a_swap(folder)
    if not (folder / "records").is_dir():
        raise UsageError(f"no reference in {folder}; run check in a checkout of the suite, or name one by --reference")
    return load_records(folder / "records")


def _fresh_seeds(count: int, reference: Sequence[Record]) -> list[int]:
    taken = {record.seed for record in reference}
    drawn = secrets.SystemRandom().sample(range(2**31), count + len(taken))
    return [seed for seed in drawn if seed not in taken][:count]


def _run(
    seeds: str,
    out: Path,
    poisons: Path,
    how: RunSettings,
    on_plan: OnPlan = lambda planned: None,
    known: Sequence[Record] = (),
) -> list[Record]:
    """Run all grids of the check after ``on_plan`` has seen their plan; returns the records of their cells."""
    public = [
        RunSettings(
            preset=PRESET,
            attack=attack,
            defense=defense,
            victim=victim,
            seeds=seeds,
            device=how.device,
            plain_models=how.plain_models,
        )
        for attack, defense, victim in _GRIDS
    ]
    return run(
        *(
            replace(
                settings,
                out=out,
                poisons=str(poisons),
                rerun="failed",
                on=how.on,
                jobs=how.jobs,
                store=how.store,
                events=how.events,
                plugin=how.plugin,
            )
            for settings in public
        ),
        # The command that records name need not hold a folder of this machine.
        commands=[settings.to_command() for settings in public],
        on_plan=on_plan,
        known=known,
        poisons_anew=True,
    )

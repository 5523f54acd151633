"""Running settings: from :class:`RunSettings` to a grid of cells over loaded data, its plan and its records."""

import dataclasses
import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from benchmark.core.atomic_files import make_folder, require_possible
from benchmark.core.cache_dir import cache_folder
from benchmark.core.distributed import Processes, process_group
from benchmark.core.log import TableMessage
from benchmark.core.malloc import keep_freed_memory
from benchmark.core.progress import is_shown
from benchmark.core.seeding import use_repeatable_kernels
from benchmark.grid.cells import (
    Cell,
    ChosenDataset,
    choose_attacks,
    choose_dataset,
    choose_defenses,
    choose_surrogates,
    choose_victims,
    make_cells,
    partly_protected,
    pick_preset,
    read_seeds,
)
from benchmark.grid.estimate import estimate
from benchmark.grid.plugins import load_plugins
from benchmark.grid.poison_store import PoisonStore
from benchmark.grid.presets import PRESETS
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import Rerun, RunSettings
from benchmark.grid.sharing import run_grid
from benchmark.grid.splits import load_splits
from benchmark.grid.tracking import Tracking
from victims.clip import resolve_device, resolve_precision

_log = logging.getLogger(__name__)

OnPlan = Callable[[list[Record]], None]


def run(
    settings: RunSettings,
    *,
    command: str | None = None,
    on_plan: OnPlan = lambda planned: None,
    already_run: Collection[str] = (),
) -> list[Record]:
    """Run every cell of some settings that is missing, and return the records of all.

    In this process, or together with others that ``torchrun`` has started. The plan and the progress go to standard
    error.

    Args:
        settings: what to run.
        command: the command that records name; by default the settings as a command.
        on_plan: called before any cell runs with the records of all cells as far as they are known; it may raise.
        already_run: keys of cells that have run for the same command already and do not run again.

    Returns:
        The records of all its cells, new and old; none for a dry run, and none in processes that help the first.

    Raises:
        UsageError: bad input, found before any work.
    """
    require_possible(settings.out)
    with open_grid(settings, command=command) as grid:
        grid.validate()
        planned = grid.plan(already_run)
        on_plan([cell.planned_record for cell in planned])
        _log.info(plan_table(grid, planned, settings.rerun))
        wanted = is_shown() and any(cell.has_to_run(settings.rerun) for cell in planned)
        if Processes.current().broadcast_object(wanted):
            expected = estimate(grid, planned, settings.rerun)
            _log.info("%s\n", expected)
            grid.time_left = expected.time_left
        if settings.dry_run:
            return []
        make_folder(grid.out)
        make_folder(grid.poisons.folder)
        records = run_grid(grid, planned, settings.rerun)
    for record in records:
        if record.status == "failed":
            _log.error("%s × %s failed: %s", record.attack.title, record.defense.spec, record.error["message"])
    return records


def run_all(
    grids: Sequence[RunSettings], *, commands: Sequence[str] | None = None, on_plan: OnPlan | None = None
) -> list[Record]:
    """Run several settings one after the other; a cell that several of them have runs once.

    Args:
        grids: what to run.
        commands: the command that the records of each name; by default the settings as a command.
        on_plan: called before any cell of any of them runs, with the planned records of all; it may raise.

    Returns:
        The records of all cells, each once; none for dry runs.
    """
    if on_plan is not None:
        on_plan(list({record.key: record for settings in grids for record in plan(settings)}.values()))
    records: dict[str, Record] = {}
    with process_group(resolve_device(grids[0].device)):
        for number, settings in enumerate(grids):
            command = commands[number] if commands else settings.to_command()
            if Processes.current().is_first and len(grids) > 1:
                _log.info("[%s/%s] %s", number + 1, len(grids), command)
            new = run(settings, command=command, already_run=list(records))
            records |= {record.key: record for record in new}
    return list(records.values())


def plan(settings: RunSettings) -> list[Record]:
    """The records of all cells as far as they are known before any runs; prints nothing, crafts nothing.

    Raises:
        UsageError: bad input.
    """
    with open_grid(settings) as grid:
        grid.validate()
        return [cell.planned_record for cell in grid.plan()]


@contextmanager
def open_grid(settings: RunSettings, *, command: str | None = None) -> Iterator[Grid]:
    """The grid of some settings: its cells, their data loaded, the store of poisons open while the block runs.

    Raises:
        UsageError: bad input.
    """
    load_plugins(settings.plugin)
    with process_group(resolve_device(settings.device)) as device, ExitStack() as stack:
        processes = Processes.current()
        if not processes.is_first:
            # All print the same, so only the first is heard.
            devnull = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(redirect_stdout(devnull))
            stack.enter_context(redirect_stderr(devnull))
        cells = cells_of(settings, device)
        cache = settings.cache or cache_folder()
        tracking = Tracking(settings.track if processes.is_first else None, settings.out)
        _log.debug(
            "device %s, torch %s, %s threads, cache %s", device, torch.__version__, torch.get_num_threads(), cache
        )
        use_repeatable_kernels(device)
        keep_freed_memory()
        _require_models(cells, device)
        with processes.rank0_first():
            splits = load_splits(cells, cache)
        store = stack.enter_context(PoisonStore.open(settings.poisons, cache, settings.checkpoint_every))
        grid = Grid(
            cells=cells,
            splits=splits,
            out=settings.out,
            poisons=store,
            device=device,
            provenance={
                "command": command or settings.to_command(),
                "preset": settings.preset,
                "processes": processes.size,
            },
            checkpoint_every=settings.checkpoint_every,
            tracking=tracking,
        )
        yield grid


def _require_models(cells: Sequence[Cell], device: torch.device) -> None:
    """Build the models that may fail to build, before any data are read.

    Raises:
        UsageError: weights that cannot be read, or a model that cannot be shared among processes.
    """
    together = Processes.current().size > 1
    for architecture in dict.fromkeys(model for cell in cells for model in (cell.victim, cell.surrogate)):
        if architecture.pretrained or together:
            architecture.build(0, device)


def cells_of(settings: RunSettings, device: torch.device, dataset: ChosenDataset | None = None) -> list[Cell]:
    """The cells of some settings, in the order they run.

    Args:
        settings: what to run.
        device: where it computes, which decides what precision ``auto`` is.
        dataset: data in place of those that the settings name.

    Raises:
        UsageError: an unknown name or parameter, or models and data that do not go together.
    """
    preset = pick_preset(settings.preset, PRESETS)
    attacks = choose_attacks(settings.attack, preset, settings.through)
    victims = choose_victims(settings.victim or preset.victim)
    recipe = settings.recipe(preset.recipe)
    return make_cells(
        dataset or choose_dataset(settings.dataset or preset.dataset, settings.skip_bad),
        attacks,
        choose_defenses(",".join([settings.defense, *partly_protected(settings.protected)]), preset),
        choose_surrogates(victims, settings.surrogate, preset),
        dataclasses.replace(recipe, precision=resolve_precision(device, recipe.precision)),
        read_seeds(str(settings.seeds)),
        cross_clean=any(part.strip() == "clean" for part in settings.attack.split(",")),
        plain_models=settings.plain_models,
    )


def plan_table(grid: Grid, planned: Sequence[PlannedCell], rerun: Rerun) -> TableMessage:
    """The plan: every cell, whether it runs, whether its poison is there."""
    rows = []
    for item in planned:
        cell, record = item.cell, item.record
        state = "runs" if item.has_to_run(rerun) or record is None else record.status
        train = grid.data_of(cell).train
        poison = "–" if cell.attack.is_clean else "cached" if grid.poisons.has(cell, train) else "to craft"
        rows.append([cell.seed, str(cell.victim), cell.attack.choice.title, cell.defense.choice.spec, poison, state])
    running = sum(item.has_to_run(rerun) for item in planned)
    head = f"{len(planned)} cells, {running} to run; records in {grid.out}, poisons in {grid.poisons.folder}"
    return TableMessage(head, ("seed", "victim", "attack", "defense", "poison", "cell"), rows)

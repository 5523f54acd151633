"""Running settings: the plan of their grid, the engine that does its cells, and the records."""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

from benchmark.core.atomic_files import make_folder, require_possible
from benchmark.core.devices import resolve_device
from benchmark.core.distributed import Processes
from benchmark.core.errors import UsageError
from benchmark.core.log import TableMessage
from benchmark.core.progress import is_shown
from benchmark.core.threads import limited_threads
from benchmark.grid.engines import choose_engine
from benchmark.grid.estimate import estimate
from benchmark.grid.events import Events
from benchmark.grid.opening import open_grid
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import Rerun, RunSettings

_log = logging.getLogger(__name__)

OnPlan = Callable[[list[Record]], None]


def run(
    *grids: RunSettings,
    commands: Sequence[str] = (),
    on_plan: OnPlan = lambda planned: None,
    known: Sequence[Record] = (),
    poisons_anew: bool = False,
) -> list[Record]:
    """Run every cell of some settings that is missing, and return the records of all.

    In this process, or together with others that ``torchrun`` has started. The plan and the progress go to standard
    error.

    Args:
        grids: what to run. Several make one grid; they may differ in what decides the cells, and share all else.
        commands: the command that the records of each name; by default the settings as a command.
        on_plan: called before any cell runs with the records of all cells as far as they are known; it may raise.
        known: records of other runs that tell how long work takes, beside those in the folder of these.
        poisons_anew: whether a cluster's store gives no poisons of other runs; ``--poisons off`` implies it.

    Returns:
        The records of all cells, new and old, each once; none for a dry run, and none in processes that help the first.

    Raises:
        UsageError: bad input, found before any work.
    """
    if not grids:
        raise UsageError("run takes at least one RunSettings")
    settings = grids[0]
    require_possible(settings.out)
    if settings.events is not None:
        if settings.events.is_dir():
            raise UsageError(f"--events: {settings.events} is a folder")
        if not settings.events.exists():  # else it may be a pipe or a device, whose folder takes no files
            require_possible(settings.events.parent)
    engine, device = choose_engine(settings), resolve_device(settings.device)
    with (
        limited_threads(engine.threads(device)),
        engine.prepared(settings, device),
        open_grid(*grids, commands=commands) as grid,
    ):
        grid.poisons = replace(grid.poisons, anew=grid.poisons.anew or poisons_anew)
        require_possible(grid.poisons.folder)
        grid.validate()
        planned = grid.plan()
        on_plan([cell.planned_record for cell in planned])
        _log.info(plan_table(grid, planned, settings.rerun))

        def set_time_left(workers: int | None, before_measuring: Callable[[], None]) -> None:
            """Say how long the run will take, and let the grid count down from there; see :func:`estimate`."""
            # A run in this process alone writes no time left to its events.
            told = is_shown() or (engine.starts_processes and settings.events is not None and not settings.dry_run)
            wanted = told and any(cell.has_to_run(settings.rerun) for cell in planned)
            if Processes.current().broadcast_object(wanted):
                expected = estimate(
                    grid,
                    planned,
                    settings.rerun,
                    known=known,
                    measure=engine.measures,
                    workers=workers,
                    before_measuring=before_measuring,
                )
                _log.info("%s\n", expected)
                grid.time_left = expected.time_left

        if settings.dry_run:
            set_time_left(engine.workers(settings, grid.device), lambda: None)
            return []
        make_folder(grid.out)
        make_folder(grid.poisons.folder)
        if settings.events is not None and not settings.events.exists():
            make_folder(settings.events.parent)
        with closing(Events(settings.events)) as events:
            records = engine.run(grid, planned, settings, events, set_time_left)
    for record in records:
        if record.status == "failed":
            _log.error("%s × %s failed: %s", record.attack.title, record.defense.spec, record.failure)
    return records


def plan_table(grid: Grid, planned: Sequence[PlannedCell], rerun: Rerun) -> TableMessage:
    """The plan: every cell, whether it runs, whether its poison is there."""
    rows = []
    for item in planned:
        cell, record = item.cell, item.record
        state = "runs" if item.has_to_run(rerun) or record is None else record.status
        poison = "–" if item.poison is None else "cached" if item.poison.is_file() else "to craft"
        rows.append([cell.seed, str(cell.victim), cell.attack.choice.title, cell.defense.choice.spec, poison, state])
    running = sum(item.has_to_run(rerun) for item in planned)
    cells = "1 cell" if len(planned) == 1 else f"{len(planned)} cells"
    head = f"{cells}, {running} to run; records in {grid.out}, poisons in {grid.poisons.folder}"
    return TableMessage(head, ("seed", "victim", "attack", "defense", "poison", "cell"), rows)

"""From settings to a grid: its cells over loaded data, with the store of their poisons open."""

import dataclasses
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from benchmark.core.cache_dir import cache_folder
from benchmark.core.devices import resolve_device
from benchmark.core.distributed import Processes, process_group
from benchmark.core.errors import UsageError
from benchmark.core.malloc import keep_freed_memory
from benchmark.core.seeding import use_repeatable_kernels
from benchmark.grid.cells import Cell
from benchmark.grid.choices import cells_of
from benchmark.grid.plugins import load_plugins
from benchmark.grid.poison_store import PoisonStore
from benchmark.grid.runner import Grid
from benchmark.grid.settings import RunSettings
from benchmark.grid.splits import load_splits
from benchmark.grid.tracking import Tracking

_log = logging.getLogger(__name__)
# What settings that make one grid may differ in.
_OF_CELLS = ("attack", "defense", "through", "protected", "victim", "surrogate", "seeds")


@contextmanager
def open_grid(*grids: RunSettings, commands: Sequence[str] = (), cells: Sequence[Cell] | None = None) -> Iterator[Grid]:
    """The grid of some settings: its cells, their data loaded, the store of poisons open while the block runs.

    Args:
        grids: what the grid is made from. Several may differ in what decides the cells, and share all else.
        commands: for each of the settings, the command that its records name; by default the settings as a command.
        cells: those to open; by default all cells of the settings.

    Raises:
        UsageError: bad input, or settings that do not go together.
    """
    settings = grids[0]
    _require_together(grids)
    load_plugins(settings.plugin)
    with process_group(resolve_device(settings.device)) as device, ExitStack() as stack:
        processes = Processes.current()
        if not processes.is_first:
            # All print the same, so only the first is heard.
            devnull = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(redirect_stdout(devnull))
            stack.enter_context(redirect_stderr(devnull))
        if cells is None:
            named = zip(grids, commands or [one.to_command() for one in grids], strict=True)
            cells = [cell for one, command in named for cell in cells_of(one, device, command=command)]
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
            provenance={"preset": settings.preset, "processes": processes.size},
            checkpoint_every=settings.checkpoint_every,
            tracking=tracking,
        )
        yield grid


def _require_together(grids: Sequence[RunSettings]) -> None:
    """See that several settings can make one grid.

    Raises:
        UsageError: they differ in more than what decides the cells.
    """
    first = grids[0]
    own = {name: getattr(first, name) for name in _OF_CELLS}
    if any(dataclasses.replace(other, **own) != first for other in grids):
        raise UsageError(f"settings that run together may differ in {', '.join(_OF_CELLS)} alone")


def _require_models(cells: Sequence[Cell], device: torch.device) -> None:
    """Build the models that may fail to build, before any data are read.

    Raises:
        UsageError: weights that cannot be read, or a model that cannot be shared among processes.
    """
    together = Processes.current().size > 1
    for architecture in dict.fromkeys(model for cell in cells for model in (cell.victim, cell.surrogate)):
        if architecture.pretrained or together:
            # Without need, this process would take memory of a GPU that its workers use.
            architecture.build(0, device if together else torch.device("cpu"))

"""The Python API: a run, and each of its steps as a function, on the same code as the command line.

Settings are a :class:`RunSettings`, whose fields are the flags of ``run``. ``load_dataset``, ``craft``, ``train`` and
``evaluate`` are the steps of one cell, so their settings may name only one victim and one seed, for ``craft`` only one
attack, and for ``train`` only one defense. They compute what ``run`` computes for that cell, to the last digit.

Importing this module shows the suite's messages (the plan, progress, warnings) on standard error, one line each, unless
the logger ``benchmark`` has a level or a handler by then. ``logging.getLogger("benchmark").setLevel("WARNING")`` leaves
out plan and progress.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from attacks import Attack, Poison
from benchmark.core.cache_dir import cache_folder, user_path
from benchmark.core.devices import resolve_device
from benchmark.core.errors import UsageError
from benchmark.core.log import show_messages
from benchmark.core.malloc import keep_freed_memory
from benchmark.core.progress import stage
from benchmark.core.seeding import use_repeatable_kernels
from benchmark.data import CaptionDataset, Splits
from benchmark.grid.cells import Cell
from benchmark.grid.choices import cells_of
from benchmark.grid.plugins import load_plugins
from benchmark.grid.poison_store import PoisonStore
from benchmark.grid.records import Record
from benchmark.grid.records import load_records as read_records
from benchmark.grid.run import run
from benchmark.grid.settings import RunSettings
from benchmark.grid.splits import load_splits, require_apart
from benchmark.metrics import Retrieval
from benchmark.tables.frame import records_frame
from defenses import Defense, HookContext
from victims.clip import Clip
from victims.evaluate import evaluate as evaluate_model
from victims.training import steps_per_epoch
from victims.training import train as train_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Attack",
    "CaptionDataset",
    "Clip",
    "Defense",
    "HookContext",
    "Poison",
    "Record",
    "Retrieval",
    "RunSettings",
    "Splits",
    "UsageError",
    "craft",
    "draw",
    "evaluate",
    "load_dataset",
    "load_records",
    "run",
    "train",
]

show_messages()


def load_dataset(settings: RunSettings) -> Splits:
    """The training, validation and test split at the victim's resolution, images (N, 3, H, W) uint8.

    Raises:
        UsageError: an unknown data set, data that cannot be read, an image in two splits, or several seeds of which
            each has data of its own.
    """
    cell, _ = _cell(settings, "victim", "seed of the data")
    splits = load_splits([cell], settings.cache or cache_folder())[cell.seed, cell.victim.resolution]
    require_apart(splits)
    return splits


def craft(train: CaptionDataset, settings: RunSettings) -> Poison:
    """The poison of a training set; read from the store where an earlier call or run has left it.

    ``poison.protect(train)`` is the data set to publish.

    Raises:
        UsageError: bad settings, no split, or one that does not suit the attack or has another resolution than the
            victim.
        VictimDiverged: the surrogate's loss is not finite.
    """
    cell, device = _cell(settings, "victim", "seed", "attack")
    _require_split(train, cell.victim.resolution, f"victim {cell.victim}")
    cell.attack.attack.check(train)
    with PoisonStore.open(settings.poisons, settings.cache or cache_folder(), settings.checkpoint_every) as store:
        return store.get(cell, train, device)


def train(data: CaptionDataset, settings: RunSettings, clean: CaptionDataset | None = None) -> Clip:
    """A victim trained on a clean or protected training set under the settings' defense.

    Args:
        data: the training set, clean or protected.
        settings: of the cell.
        clean: the training set without its protection, for defenses whose scraper has some clean data, such as
            ``clean-fraction``; others do not look at it.

    Raises:
        UsageError: bad settings, no split, fewer rows than a batch, images of another resolution than the victim's, or
            a defense needs clean data that are not given.
        VictimDiverged: the loss is not finite.
    """
    cell, device = _cell(settings, "victim", "seed", "defense")
    if clean is None and cell.defense.defense.needs_clean:
        raise UsageError(f"defense {cell.defense.choice.spec} needs clean data: give train the argument clean")
    for each in (data, clean) if clean is not None else (data,):
        _require_split(each, cell.victim.resolution, f"victim {cell.victim}")
    seed = cell.victim.seed_of(cell.seed)
    steps = steps_per_epoch(data, cell.recipe) * cell.recipe.epochs
    model = cell.build_victim(seed, device)
    with stage(f"training {cell.victim} under {cell.defense.choice.spec}", steps) as progress:
        train_model(model, data, cell.recipe, cell.defense.defense, seed=seed, clean=clean, progress=progress)
    return model


def evaluate(model: Clip, data: CaptionDataset, settings: RunSettings) -> Retrieval:
    """A victim's retrieval scores on a split.

    Args:
        model: the victim; it is left as it is.
        data: the split, for scores as in records ``data.test`` of :func:`load_dataset`.
        settings: of the cell. Its seed orders ties, as between captions of the same words.

    Raises:
        UsageError: bad settings, no split, or images of another resolution than the model's.
        VictimDiverged: the embeddings are not finite.
    """
    cell, _ = _cell(settings, "victim", "seed")
    _require_split(data, model.resolution, "the model")
    return evaluate_model(model, data, cell.victim.seed_of(cell.seed))


def load_records(folder: str | Path) -> pd.DataFrame:
    """The records in a folder as a tidy data frame, a row a cell; see :func:`benchmark.tables.frame.records_frame`.

    Raises:
        UsageError: no such folder, or a file in it is not a record.
    """
    return records_frame(read_records(user_path(str(folder))))


def draw(name: str, folder: str | Path) -> "dict[str, Figure]":
    """A figure of the records in a folder; by file name, since some kinds make several.

    Args:
        name: a name that ``list figures`` shows.
        folder: of records.

    Raises:
        UsageError: no such figure, no records, or records that do not make it.
    """
    from benchmark.figures.draw import draw_all
    from benchmark.figures.sources import ArtifactPaths

    cache = cache_folder()
    figures, problems = draw_all([name], read_records(user_path(str(folder))), ArtifactPaths(cache / "poisons", cache))
    if not figures:
        raise problems[0].error
    for problem in problems:
        logging.getLogger(__name__).warning("not drawn: %s", problem)
    return figures


def _require_split(data: CaptionDataset, resolution: int, who: str) -> None:
    if not isinstance(data, CaptionDataset):
        raise UsageError(f"a split is needed, such as data.train, got a {type(data).__name__}")
    if data.images.shape[2:] != (resolution, resolution):
        height, width = data.images.shape[2:]
        raise UsageError(f"{data.name} has images of {height} × {width} px, but {who} sees {resolution} px")


def _cell(settings: RunSettings, *must_be_one: str) -> tuple[Cell, torch.device]:
    """The last cell of the settings, and the device it computes on.

    Raises:
        UsageError: the settings name several of what a step takes one of.
    """
    load_plugins(settings.plugin)
    device = resolve_device(settings.device)
    use_repeatable_kernels(device)
    keep_freed_memory()
    cells = cells_of(settings, device)
    chosen = {
        "victim": [str(cell.victim) for cell in cells],
        "seed": [str(cell.seed) for cell in cells],
        "seed of the data": [str(cell.dataset.choice.params.get("seed")) for cell in cells],
        "attack": [cell.attack.choice.spec for cell in cells if not cell.attack.is_clean],
        "defense": [cell.defense.choice.spec for cell in cells if cell.defense.choice.spec != "none"],
    }
    for kind in must_be_one:
        distinct = list(dict.fromkeys(chosen[kind]))
        if len(distinct) > 1:
            raise UsageError(f"this step takes one {kind}; the settings name {', '.join(distinct)}")
    return cells[-1], device

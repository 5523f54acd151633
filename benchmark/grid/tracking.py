"""``--track``: a victim's curves, live, in TensorBoard, Weights & Biases or Trackio. None is imported unless asked for.

Records stay what counts: a tracker is shown the very scores that the record will hold.
"""

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.core.errors import UsageError, in_one_line
from benchmark.grid.record_layout import CHOSEN
from benchmark.grid.records import EpochScores, Record
from benchmark.grid.settings import Tracker

_log = logging.getLogger(__name__)

PROJECT = "unlearnable-bench"
_MODULES: Mapping[Tracker, str] = {
    "tensorboard": "torch.utils.tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
}

Curves = Callable[[int, Mapping[str, float]], object]
"""Takes the values after an epoch, from 1; later epochs come later."""


@dataclass(frozen=True)
class Tracking:
    """Where curves go.

    Attributes:
        tracker: one of the three; ``None`` for nowhere.
        folder: TensorBoard's files lie below it, in ``tensorboard``.

    Raises:
        UsageError: the tracker's package is not installed.
    """

    tracker: Tracker | None = None
    folder: Path = Path()

    def __post_init__(self) -> None:
        if self.tracker is not None:
            self._module(self.tracker)

    @contextmanager
    def curves(self, cell: Record) -> Iterator[Curves]:
        """What shows the curves of a cell while it runs; once it fails, the training goes on without it.

        Args:
            cell: its record as far as it is known before it runs.
        """
        tracker = self.tracker
        if tracker is None:
            yield _nothing
            return
        works = True

        def attempt(do: Callable[..., Any], *arguments: Any) -> Any:
            """What a call gives, ``None`` from the first failure on."""
            nonlocal works
            try:
                return do(*arguments) if works else None
            except Exception as error:  # of a package that is not ours: of any kind, as where the network is down
                works = False
                _log.warning("--track %s stops showing this cell: %s", tracker, in_one_line(error))
                return None

        log, close = attempt(self._opened, tracker, cell) or (_nothing, _nothing)
        try:
            yield partial(attempt, log)
        finally:
            attempt(close)

    def _opened(self, tracker: Tracker, cell: Record) -> tuple[Curves, Callable[[], object]]:
        """What takes the values of a cell in the tracker, and what closes it."""
        name, module = Path(cell.file_name()).stem, self._module(tracker)
        if tracker == "tensorboard":
            # A cell that runs again logs its curve from the start: what an earlier run has logged is hidden.
            writer = module.SummaryWriter(str(self.folder / "tensorboard" / name), purge_step=0)

            def log(epoch: int, values: Mapping[str, float]) -> None:
                for name, value in values.items():
                    writer.add_scalar(name, value, epoch)

            return log, writer.close
        # Weights & Biases and Trackio share one interface.
        run = module.init(project=PROJECT, name=name, config=_settings(cell))
        return lambda epoch, values: run.log(dict(values), step=epoch), run.finish

    @staticmethod
    def _module(tracker: Tracker) -> Any:
        try:
            return importlib.import_module(_MODULES[tracker])
        except ModuleNotFoundError as error:
            raise UsageError(
                f"--track {tracker} needs a package that is not installed: pip install 'unlearnable-bench[{tracker}]'"
            ) from error


def _nothing(*_: object) -> None:
    """Nobody watches."""


def epoch_values(loss: float, scores: EpochScores | None) -> dict[str, float]:
    """What is shown of an epoch: the training loss in nats and, where it was evaluated, R@10 (percent) and Medr."""
    values = {"loss": loss}
    for split in ("val", "test", "protected"):
        if (both := getattr(scores, split, None)) is None:
            continue
        for direction in ("image_to_text", "text_to_image"):
            retrieval = getattr(both, direction)
            values[f"{split}/{direction}/recall_at_10"] = retrieval.recall_at_10
            values[f"{split}/{direction}/median_rank"] = retrieval.median_rank
    return values


def _settings(cell: Record) -> dict[str, Any]:
    chosen = {name: getattr(cell, name).spec for name in CHOSEN}
    return {**chosen, "seed": cell.seed, "key": cell.key, "recipe": dict(cell.recipe)}

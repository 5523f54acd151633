"""``--track``: a victim's curves, live, in TensorBoard, Weights & Biases or Trackio. None is imported unless asked for.

Records stay what counts: a tracker is shown the very scores that the record will hold.
"""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmark.core.errors import UsageError
from benchmark.grid.record_layout import CHOSEN
from benchmark.grid.records import EpochScores, Record
from benchmark.grid.settings import Tracker

PROJECT = "unlearnable-bench"
_MODULES: Mapping[Tracker, str] = {
    "tensorboard": "torch.utils.tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
}


class Curves(Protocol):
    """The curves of one cell."""

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Values after an epoch, from 1; later epochs come later."""
        ...


class _Nothing:
    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Nobody watches."""


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
        """The curves of a cell, open while it runs.

        Args:
            cell: its record as far as it is known before it runs.
        """
        name = Path(cell.file_name()).stem
        if self.tracker is None:
            yield _Nothing()
        elif self.tracker == "tensorboard":
            folder = self.folder / "tensorboard" / name
            # A cell that runs again logs its curve from the start: what an earlier run has logged is hidden.
            with self._module(self.tracker).SummaryWriter(str(folder), purge_step=0) as writer:
                yield _TensorBoard(writer)
        else:
            run = self._module(self.tracker).init(project=PROJECT, name=name, config=_settings(cell))
            try:
                yield _Run(run)
            finally:
                run.finish()

    @staticmethod
    def _module(tracker: Tracker) -> Any:
        try:
            return importlib.import_module(_MODULES[tracker])
        except ModuleNotFoundError as error:
            raise UsageError(
                f"--track {tracker} needs a package that is not installed: pip install 'unlearnable-bench[{tracker}]'"
            ) from error


@dataclass(frozen=True)
class _TensorBoard:
    writer: Any

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)


@dataclass(frozen=True)
class _Run:
    """Weights & Biases and Trackio share one interface."""

    run: Any

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=epoch)


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

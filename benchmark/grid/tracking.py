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
from typing import Any, Protocol

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
        if self.tracker is None:
            yield _Nothing()
            return
        shown = _Shown(self.tracker, partial(self._opened, self.tracker, cell))
        try:
            yield shown
        finally:
            shown.close()

    def _opened(self, tracker: Tracker, cell: Record) -> "_TensorBoard | _Run":
        name, module = Path(cell.file_name()).stem, self._module(tracker)
        if tracker == "tensorboard":
            # A cell that runs again logs its curve from the start: what an earlier run has logged is hidden.
            return _TensorBoard(module.SummaryWriter(str(self.folder / "tensorboard" / name), purge_step=0))
        return _Run(module.init(project=PROJECT, name=name, config=_settings(cell)))

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

    def close(self) -> None:
        self.writer.close()


@dataclass(frozen=True)
class _Run:
    """Weights & Biases and Trackio share one interface."""

    run: Any

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=epoch)

    def close(self) -> None:
        self.run.finish()


class _Shown:
    """A tracker's curves until the tracker fails, as where the network is down: the training goes on without them.

    Args:
        tracker: its name.
        opened: opens them.
    """

    def __init__(self, tracker: Tracker, opened: Callable[[], "_TensorBoard | _Run"]) -> None:
        self._tracker = tracker
        self._curves: _TensorBoard | _Run | None = None
        with self._warning():
            self._curves = opened()

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        with self._warning():
            if self._curves is not None:
                self._curves.log(epoch, values)

    def close(self) -> None:
        with self._warning():
            if self._curves is not None:
                self._curves.close()

    @contextmanager
    def _warning(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of a package that is not ours: of any kind
            self._curves = None
            _log.warning("--track %s stops showing this cell: %s", self._tracker, in_one_line(error))


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

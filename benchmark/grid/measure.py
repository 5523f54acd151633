"""Time a few steps of training and of crafting on this machine.

The timed steps are real ones, by the same code, model, defense and batch size, on one batch of rows. Their results are
thrown away, and no random state that a run uses is changed.
"""

import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median_low

import numpy as np
import torch
from numpy.typing import NDArray

from attacks.base import CraftContext
from benchmark.core.distributed import Processes
from benchmark.core.progress import Silent
from benchmark.core.seeding import derive_seed
from benchmark.data import CaptionDataset, LazyImages, Splits
from benchmark.grid.cells import Cell
from benchmark.grid.protected_sample import protected_sample
from victims.evaluate import evaluate
from victims.training import steps_per_epoch, train

Costs = NDArray[np.float64]
_TRAINING_STEPS = 6
_MOST_STEPS = 1000
_LARGEST_SHARE = 0.1  # timed steps among all steps; below it, measuring costs little
_VAL_IMAGES = 256


class _OutOfTimeError(Exception):
    """The measurement has taken too long."""


class _StepTimer(Silent):
    """Records the seconds of every step, and ends the measurement at a deadline."""

    def __init__(self, device: torch.device, deadline: float) -> None:
        self.seconds: list[float] = []
        self._device, self._deadline, self._last = device, deadline, time.monotonic()

    def advance(self, note: str = "") -> None:
        """Record a finished step."""
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        now = time.monotonic()
        self.seconds.append(now - self._last)
        self._last = now
        # All processes stop after the same step; otherwise one would wait forever for the others' gradients.
        if Processes.current().broadcast_object(now > self._deadline):
            raise _OutOfTimeError


def training_costs(cell: Cell, data: Splits, device: torch.device, deadline: float) -> Costs | None:
    """Seconds of every step of a victim's training, evaluations included.

    The timed steps stand at equal distances from the first to the last: adversarial training begins late.

    Args:
        cell: gives the victim, the recipe and the defense.
        data: the clean data.
        device: where the victim trains.
        deadline: reading of ``time.monotonic`` after which no further step is timed.

    Returns:
        (S + 1,) one entry for each of the S steps, then one for the last evaluation. Any other evaluation counts in
        the first step of the next epoch. ``None`` if the training is too short to be measured, or the deadline passed.
    """
    recipe, steps = cell.recipe, steps_per_epoch(data.train, cell.recipe)
    if steps * recipe.epochs * _LARGEST_SHARE < _TRAINING_STEPS:
        return None
    seed = derive_seed(cell.seed, "measurement")
    model = cell.build_victim(seed, device)
    batch, timer = _rows(data.train, recipe.batch_size), _StepTimer(device, deadline)
    sample = protected_sample(data.train, recipe, len(data.val), seed)
    evaluated = [split for split in (data.val, data.test, sample) if split is not None]
    try:
        # An epoch of one batch, so that the captions' augmentation, which runs once an epoch, is timed too.
        few = replace(recipe, epochs=_TRAINING_STEPS)
        train(model, batch, few, cell.defense.defense, seed=seed, progress=timer, repeats=True)
        val = replace(
            data.val, images=data.val.images[:_VAL_IMAGES], captions=data.val.captions[:_VAL_IMAGES], origins=None
        )
        if device.type != "cpu":
            evaluate(model, val, seed)  # the first one also loads kernels
        start = time.monotonic()
        evaluate(model, val, seed)
        evaluation = (time.monotonic() - start) * sum(len(split.pairs) for split in evaluated) / len(val.pairs)
    except _OutOfTimeError:
        if len(timer.seconds) < 2:
            return None
        # No time to evaluate: encoding a batch is a third of training on it.
        in_batches = sum(len(split.pairs) for split in evaluated) / recipe.batch_size
        evaluation = timer.seconds[-1] / cell.defense.defense.passes / 3 * in_batches
    return _over_all_steps(timer.seconds, steps, recipe.epochs, evaluation, recipe.evaluate_every)


def _over_all_steps(timed: list[float], steps: int, epochs: int, evaluation: float, evaluate_every: int) -> Costs:
    """Extend the seconds of a few steps to (steps · epochs + 1,); see :func:`training_costs`."""
    seconds = np.array([*timed, *timed[-1:] * (_TRAINING_STEPS - len(timed))])
    seconds[0] = seconds[1]  # the first step warms up: memory, kernels, word lists
    costs = np.append(seconds[np.arange(steps * epochs) * _TRAINING_STEPS // (steps * epochs)], 0.0)
    evaluated = [epoch for epoch in range(1, epochs + 1) if epoch % evaluate_every == 0 or epoch == epochs]
    costs[np.array(evaluated) * steps] += evaluation
    return costs


def steps_per_second(cell: Cell, data: Splits, device: torch.device, seconds: float) -> float:
    """How many steps of a cell's training this process does in a second, timed for ``seconds``, at least one."""
    model = cell.build_victim(derive_seed(cell.seed, "measurement"), device)
    timer = _StepTimer(device, time.monotonic() + seconds)
    with suppress(_OutOfTimeError):
        train(
            model,
            _rows(data.train, cell.recipe.batch_size),
            replace(cell.recipe, epochs=_MOST_STEPS),
            cell.defense.defense,
            seed=cell.seed,
            progress=timer,
        )
    timed = timer.seconds[1:] or timer.seconds  # the first step warms up
    return len(timed) / sum(timed)


def crafting_costs(cell: Cell, train_data: CaptionDataset, device: torch.device, deadline: float) -> Costs | None:
    """Seconds of every progress step of crafting a cell's poison.

    Args:
        cell: gives the attack and the surrogate; the attack crafts its own poison (``part_of`` is ``None``).
        train_data: the clean training set.
        device: where the surrogate computes.
        deadline: reading of ``time.monotonic`` after which no further step is timed.

    Returns:
        (S,) one entry for each step; ``None`` if the attack has no pilot, crafting is too short to be measured, or
        the deadline passed.
    """
    attack = cell.attack.attack
    if (pilot := attack.pilot()) is None:
        return None
    shorter, rows = pilot
    batch, kinds = _rows(train_data, rows), attack.step_kinds(train_data)
    timed_kinds = shorter.step_kinds(batch)
    if len(kinds) * _LARGEST_SHARE < len(timed_kinds):
        return None
    timer = _StepTimer(device, deadline)
    try:
        with tempfile.TemporaryDirectory() as folder:
            context = CraftContext(
                lambda seed: cell.build_surrogate(seed, device),
                seed=cell.seed,
                workdir=Path(folder),
                progress=timer,
            )
            shorter.craft(batch, context)
    except _OutOfTimeError:
        if not set(kinds) <= set(timed_kinds[: len(timer.seconds)]):
            return None
    timed = list(zip(timed_kinds, timer.seconds, strict=False))
    # The median, or the lower of two: the first step of a kind also warms up.
    seconds = {kind: median_low(taken for own, taken in timed if own == kind) for kind in set(kinds)}
    return np.array([seconds[kind] for kind in kinds])


def _rows(dataset: CaptionDataset, count: int) -> CaptionDataset:
    """``count`` image–caption pairs spread over a data set, as images with one caption each."""
    pick = np.arange(count) * len(dataset) // count
    captions = [[dataset.captions[i][number % len(dataset.captions[i])]] for number, i in enumerate(pick)]
    return replace(dataset, images=LazyImages(dataset.images, pick=pick), captions=captions, origins=None)

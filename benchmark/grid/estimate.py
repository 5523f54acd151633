"""Estimate how long a grid will take, before it starts."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmark.core.checkpoints import Checkpoint
from benchmark.core.distributed import Processes
from benchmark.core.errors import UsageError, first_line
from benchmark.core.progress import roughly, stage
from benchmark.core.time_left import Task, TimeLeft
from benchmark.grid.cells import content_key
from benchmark.grid.measure import Costs, crafting_costs, training_costs
from benchmark.grid.poison_store import source_cell
from benchmark.grid.records import Record, read_pack
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import Rerun
from benchmark.grid.units import longest_first, units_of
from victims.training import steps_per_epoch

_log = logging.getLogger(__name__)
# Seconds after which measuring stops: nobody wants to wait for a plan.
_MEASURING = 20.0
# The estimate counts like a run of this share of its length; see TimeLeft.
_TRUST = 0.01


@dataclass(frozen=True)
class Estimate:
    """The expected time of a grid.

    Attributes:
        time_left: the tasks of the run; a poison's name is the path of its file, a victim's the key of its cell.
        crafting: seconds.
        training: seconds, with evaluations; ``None`` if unknown.
        not_timed: attacks whose crafting time is unknown.
        workers: that share the tasks; ``None`` if their number is unknown.
        whole: seconds until all is done; one task after the other if the number of workers is unknown.
        measured: whether work that no record tells of was to be timed.
    """

    time_left: TimeLeft
    crafting: float
    training: float | None
    not_timed: Sequence[str]
    workers: int | None
    whole: float
    measured: bool = True

    def __str__(self) -> str:
        """One line, e.g. ``about 7 min with 2 workers: 3 min of crafting and 9 min of training between them``."""
        if self.training is None:
            why = "the work is too short to be timed, or a step takes too long"
            elsewhere = "the work runs elsewhere, and no record tells how long it takes there"
            return f"no estimate of the time: {why if self.measured else elsewhere}"
        parts = {"crafting": self.crafting, "training": self.training}
        words = [f"{roughly(seconds)} of {what}" for what, seconds in parts.items() if seconds > 0]
        whole = f"about {roughly(self.whole)}"
        if not words:
            text = whole
        elif self.workers is None:
            text = f"{whole} for a single worker: {' and '.join(words)}"
        elif self.workers > 1:
            text = f"{whole} with {self.workers} workers: {' and '.join(words)} between them"
        else:
            text = f"{whole}: {', '.join(words)}" if len(words) > 1 else f"about {words[0]}"
        return f"{text}; crafting {', '.join(self.not_timed)} not counted" if self.not_timed else text


@dataclass(frozen=True)
class _Work:
    """A poison to craft or a victim to train, before its time is known."""

    name: str
    kind: str
    steps: int
    measure: Callable[[float], Costs | None]
    checkpoint: Checkpoint
    attack: str = ""  # whose poison this is; empty for a victim
    passes: int = 1  # of the model in each step of a victim, in those of plain training


def estimate(
    grid: Grid,
    planned: Sequence[PlannedCell],
    rerun: Rerun,
    *,
    known: Iterable[Record] = (),
    measure: bool = True,
    workers: int | None = 1,
    before_measuring: Callable[[], None] = lambda: None,
) -> Estimate:
    """Estimate the time of the cells that have to run and of the poisons that they need and that do not exist yet.

    Times come from records of the same work on the same machine; without them, from a short measurement, unless
    ``measure`` is false, as where other machines do the work. Several processes call this together.

    Args:
        grid: what runs.
        planned: its cells.
        rerun: which of those that have a record run again.
        known: records that tell the time of work, beside those of the grid's folder.
        measure: whether to time what no record tells.
        workers: that share the work; ``None`` if their number is unknown.
        before_measuring: called if there is something to time, which takes seconds.
    """
    # The first process decides which files exist, since they may appear while the others look.
    units = units_of(planned, rerun)
    keys = Processes.current().broadcast_object([(unit.planned.key, unit.crafts) for unit in units])
    by_key = {one.key: one for one in planned}
    todo = [_work(grid, by_key[key], crafts=crafts) for key, crafts in keys]
    recorded = Processes.current().broadcast_object(_recorded([*_records_in(grid.out), *known]))
    worked = {work.name: work.checkpoint.seconds_worked() for work in todo}
    unknown = [work for work in todo if work.kind not in recorded] if measure else []
    if unknown:
        before_measuring()
    costs = _measured(unknown)
    if unknown and grid.device.type == "cuda":
        torch.cuda.empty_cache()  # else this process would keep it from a worker on the same GPU
    # A record knows the time of all steps together, and not how it is spread over them. A poison that is crafted in no
    # steps takes time as well.
    costs |= {
        work.kind: np.full(max(work.steps, 1), recorded[work.kind] / max(work.steps, 1))
        for work in todo
        if work.kind in recorded
    }
    victims = [work for work in todo if not work.attack]
    # A victim of unknown time is expected to take its number of passes times the seconds of one pass. These seconds
    # come from a known victim with the fewest passes, the fastest of several: the extra passes of adversarial training
    # are cheaper, because they compute no gradients of weights. If no victim's time is known, costs are in passes.
    known_victims = [work for work in victims if work.kind in costs]
    known_passes = [(work.passes, costs[work.kind].sum() / work.steps / work.passes) for work in known_victims]
    one_pass = min(known_passes)[1] if known_passes else None
    if one_pass is None:
        costs = {}
    for work in victims:
        costs.setdefault(work.kind, np.full(work.steps, (one_pass or 1.0) * work.passes))
    tasks = {
        work.name: Task(
            work.kind, costs.get(work.kind), worked[work.name] if one_pass else 0.0, crafts=bool(work.attack)
        )
        for work in todo
    }
    crafting = sum(tasks[work.name].cost_left for work in todo if work.attack)
    training = sum(tasks[work.name].cost_left for work in victims)
    time_left = TimeLeft(tasks, trusted=_TRUST * (crafting + training) if one_pass else 0.0)
    waiting = [(unit.name, unit.needs) for unit in longest_first(units, tasks)]
    return Estimate(
        time_left=time_left,
        crafting=crafting,
        training=training if one_pass else None,
        not_timed=sorted({work.attack for work in todo if work.attack and work.kind not in costs}),
        workers=workers,
        whole=time_left.pace.left(waiting, workers or 1) or 0.0,
        measured=measure,
    )


def _work(grid: Grid, one: PlannedCell, *, crafts: bool) -> _Work:
    """A cell's victim, or its poison."""
    cell, record, data = one.cell, one.planned_record, grid.data_of(one.cell)
    if not crafts:
        return _Work(
            name=one.key,
            kind=_training_kind(record),
            steps=steps_per_epoch(data.train, cell.recipe) * cell.recipe.epochs,
            measure=lambda deadline: training_costs(cell, data, grid.device, deadline),
            checkpoint=Checkpoint.beside(one.path, grid.checkpoint_every),
            passes=cell.defense.defense.passes,
        )
    assert one.poison is not None
    whole = source_cell(cell)
    return _Work(
        name=str(one.poison),
        kind=_crafting_kind(record),
        steps=whole.attack.attack.progress_steps(data.train),
        measure=lambda deadline: crafting_costs(whole, data.train, grid.device, deadline),
        checkpoint=Checkpoint.beside(one.poison, grid.poisons.checkpoint_every),
        attack=whole.attack.choice.title,
    )


def _measured(todo: Sequence[_Work]) -> dict[str, Costs]:
    """Measured seconds of every step by kind of work; without the kinds that fail or for which no time was left."""
    first = {work.kind: work for work in reversed(todo)}
    # The first victim stands for those that are not measured in time; then poisons, which take longest.
    victim = next((work.kind for work in todo if not work.attack), None)
    order = sorted(first.values(), key=lambda work: (work.kind != victim, not work.attack))
    costs, deadline = {}, time.monotonic() + _MEASURING
    with stage("measuring the speed", len(order)) as progress:
        for work in order:
            if Processes.current().broadcast_object(time.monotonic() > deadline):
                break
            try:
                measured = work.measure(deadline)
            except Exception as error:  # the work itself will raise it, and fail alone
                if not Processes.current().failed_alike(error):
                    raise
                what = f"crafting {work.attack}" if work.attack else "training"
                _log.warning("a step of %s could not be timed: %s: %s", what, type(error).__name__, first_line(error))
                measured = None
            if measured is not None:
                costs[work.kind] = measured
            progress.advance()
    return costs


def _records_in(folder: Path) -> Iterator[Record]:
    for path in folder.glob("*.json"):
        with suppress(UsageError):  # an estimate can do without it; commands that need the file report the error
            yield Record.load(path)
    with suppress(UsageError):
        yield from read_pack(folder).values()


def _recorded(records: Iterable[Record]) -> dict[str, float]:
    """Median seconds by kind of work."""
    seconds = defaultdict(list)
    for record in records:
        taken = record.seconds
        if record.status == "done" and {"train", "evaluate", "craft"} <= taken.keys():
            seconds[_training_kind(record)].append(taken["train"] + taken["evaluate"])
            seconds[_crafting_kind(record)].append(taken["craft"])
    return {kind: median(taken) for kind, taken in seconds.items() if median(taken) > 0}


def _training_kind(record: Record) -> str:
    # By the model's name: another repeat of a victim, or one from a checkpoint, takes as long.
    return content_key("train", record.victim.label, record.recipe, record.defense.params, _circumstances(record))


def _crafting_kind(record: Record) -> str:
    attack = record.attack
    return content_key(
        "craft",
        attack.spec,
        attack.params,
        record.surrogate.spec,
        record.recipe["precision"],
        _circumstances(record),
    )


def _circumstances(record: Record) -> list[Any]:
    """The sizes of the data, the machine, and how models are computed."""
    names = "resolution train_images val_images test_images train_captions test_captions".split()
    machine = ("device", "threads", "processes")
    models = record.provenance.get("models", "fast")
    return [*map(record.dataset.params.get, names), *map(record.provenance.get, machine), models]

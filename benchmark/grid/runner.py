"""A grid of cells: what is there already, what has to run, and running one cell so that nothing is lost."""

import json
import logging
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from attacks import Poison
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.devices import computes
from benchmark.core.disk_space import is_full_disk
from benchmark.core.distributed import Processes
from benchmark.core.errors import Failure, UsageError, as_usage_error
from benchmark.core.locks import is_claimed
from benchmark.core.progress import stage
from benchmark.core.strict_json import as_kind
from benchmark.core.time_left import TimeLeft
from benchmark.data import CaptionDataset, Splits
from benchmark.data.nearest import nearest_distance
from benchmark.grid.cells import Cell
from benchmark.grid.draft import Draft
from benchmark.grid.poison_store import PoisonStore, describe_poison, source_cell
from benchmark.grid.protected_sample import protected_sample
from benchmark.grid.provenance import peak_device_memory_mb, peak_memory_mb
from benchmark.grid.record_layout import CHOSEN
from benchmark.grid.records import EpochScores, Record, read_pack
from benchmark.grid.settings import Rerun
from benchmark.grid.splits import require_apart
from benchmark.grid.tracking import Tracking, epoch_values
from victims.clip import Clip
from victims.evaluate import evaluate
from victims.training import require_batches, steps_per_epoch, train

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedCell:
    """A cell, where its record lies, and what is known of it.

    Attributes:
        cell: what runs.
        key: its address.
        path: the file of its record.
        record: what lies there, if anything does.
        respelled: whether ``record`` is finished and was found under another spelling's name, so that its own file is
            missing or of a failure.
        planned_record: its record as far as it is known before it runs: settings, no scores.
        poison: the file of its poison, or of the one it is a part of, existing or not; ``None`` for clean data.
    """

    cell: Cell
    key: str
    path: Path
    record: Record | None
    respelled: bool
    planned_record: Record
    poison: Path | None

    def has_to_run(self, rerun: Rerun) -> bool:
        """Whether the cell runs: ``missing`` ones always, ``failed`` ones and ``all`` others on demand."""
        if self.record is None:
            return True
        return rerun == "all" or (rerun == "failed" and self.record.status == "failed")


@dataclass
class Grid:
    """Cells over loaded data, with a folder for their records and a store of poisons.

    Attributes:
        cells: in the order they run.
        splits: by seed and resolution in pixels.
        out: the folder of records.
        poisons: where poisons are kept.
        device: where to compute.
        provenance: what every record says of the run: preset, number of processes.
        checkpoint_every: a victim's epochs between two checkpoints; 0 for none.
        tracking: where victims' curves are shown while they train.
        time_left: the poisons to craft and the victims to train; see :mod:`benchmark.grid.estimate`.
        passes_on: whether :meth:`run` and :meth:`craft` raise an error instead of recording it, because another machine
            may not meet it; by default they record all.
    """

    cells: Sequence[Cell]
    splits: dict[tuple[int, int], Splits]
    out: Path
    poisons: PoisonStore
    device: torch.device
    provenance: dict[str, Any]
    checkpoint_every: int = 0
    tracking: Tracking = field(default_factory=Tracking)
    time_left: TimeLeft = field(default_factory=TimeLeft)
    passes_on: Callable[[BaseException], bool] = lambda error: False

    def __post_init__(self) -> None:
        self._protected: tuple[Path, Poison, CaptionDataset, dict[str, Any]] | None = None
        self._uncraftable: dict[Path, tuple[BaseException, str]] = {}
        self._nearest: dict[tuple[str, str], float] = {}

    def validate(self) -> None:
        """See that every cell can run, before any does.

        Raises:
            UsageError: two splits share an image, too little data for a batch, data that do not suit an attack, a
                defense that leaves less than a batch.
        """
        for splits in {id(splits): splits for splits in self.splits.values()}.values():
            require_apart(splits)
        seen = set[tuple[int, ...]]()
        for cell in self.cells:
            data = self.data_of(cell)
            together = id(cell.attack), id(cell.recipe), id(data)  # cells share these objects
            if together not in seen:
                steps_per_epoch(data.train, cell.recipe)
                cell.attack.attack.check(data.train)
                seen.add(together)
            defended = id(cell.defense), id(cell.recipe), id(data), cell.victim.seed_of(cell.seed)
            if defended not in seen:
                with as_usage_error(f"{cell.defense.choice.spec}, seed {cell.seed}", (UsageError,)):
                    require_batches(data.train, cell.recipe, cell.defense.defense, seed=defended[-1])
                seen.add(defended)

    def plan(self) -> list[PlannedCell]:
        """Every cell with its record, if there is one; a cell that several settings have is planned once.

        Raises:
            UsageError: a record cannot be read; or none could be made, as of a plugin's label of two lines.
        """
        draft, planned = Draft(self.device, self.provenance), dict[str, PlannedCell]()
        kept = _records_by_key(self.out)
        poisons: dict[tuple[Any, ...], Path | None] = {}
        for cell in self.cells:
            data = self.data_of(cell)
            key = cell.key([split.fingerprint for split in (data.train, data.val, data.test)])
            if key in planned:
                continue
            planned_record = draft.record(cell, data, key)
            path = self.out / planned_record.file_name()
            known, respelled = self._known(path.name, planned_record, kept)
            # All defenses share a poison, and so its address.
            shared = id(cell.attack), id(data), cell.surrogate, cell.recipe.precision, cell.seed, cell.plain_models
            if shared not in poisons:
                poisons[shared] = file = self.poisons.file_of(cell, data.train)
                if file is not None:
                    self.poisons.discard_if_cut_short(file)
            planned[key] = PlannedCell(cell, key, path, known, respelled, planned_record, poisons[shared])
        return list(planned.values())

    def _known(self, name: str, planned_record: Record, kept: "_Kept") -> tuple[Record | None, bool]:
        """The record of a cell, found by its file's name, or else by its key if it was saved under another spelling.

        The second value tells whether it was.

        In the second case only a finished record counts, and it gets the present spelling; a failed one of the present
        spelling counts where there is no finished one.
        """
        of_key = kept.get(planned_record.key[:12], {})
        failed = None
        for other in sorted(of_key, key=lambda other: (other != name, other)):
            place = of_key[other]
            record = Record.find(place) if isinstance(place, Path) else place
            if record is None:
                continue
            if other == name:
                if record.status == "done":
                    return record, False
                failed = record
            elif record.key == planned_record.key and record.status == "done":
                return replace(record, **{chosen: getattr(planned_record, chosen) for chosen in CHOSEN}), True
        return failed, False

    def run(self, planned: PlannedCell) -> Record:
        """Run a cell whose claim is held and write its record; an error in it becomes a failed record.

        A complete record stays where the cell fails. With several processes, all run the cell and the first writes the
        record.

        Raises:
            UsageError: the record cannot be written, or the disk is full.
            Exception: an error in one of several processes alone, for which the others wait in vain; or one that is
                passed on.
        """
        cell, data = planned.cell, self.data_of(planned.cell)
        base = planned.planned_record
        checkpoint = Checkpoint.beside(planned.path, self.checkpoint_every)
        try:
            record = checkpoint.afresh_if_unfit(lambda: self._run(cell, data, base, checkpoint)).as_kept()
        except (Exception, SystemExit) as error:
            if self._ends_run(error) or not (computes(self.device) and Processes.current().failed_alike(error)):
                raise
            where = next((told for kept, told in self._uncraftable.values() if kept is error), traceback.format_exc())
            record = base.failed(type(error).__name__, str(error), where)
            _log.debug("the cell failed here", exc_info=error)
            _let_go(error)
        record = self.keep(planned, record)
        if record.status == "done" and Processes.current().is_first:
            checkpoint.discard()
        return record

    def keep(self, planned: PlannedCell, record: Record) -> Record:
        """Write a record that a cell ended with, unless it failed and a complete one is there; returns what is written.

        Raises:
            UsageError: the record cannot be written, or one that is there cannot be read.
        """
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        record = replace(record, provenance={**record.provenance, "finished": finished})
        if Processes.current().is_first and (record.status == "done" or not _is_done(planned)):
            record.save(self.out)
        return record

    def craft(self, planned: PlannedCell) -> Failure | None:
        """Craft the poison that a cell needs, unless it is there; returns what went wrong, if anything did.

        Raises:
            UsageError: the disk is full.
            Exception: one that is passed on, or after which the device computes nothing.
        """
        cell = source_cell(planned.cell)
        try:
            self.poisons.get(cell, self.data_of(cell).train, self.device, self.time_left)
        except (Exception, SystemExit) as error:
            if self._ends_run(error) or not computes(self.device):
                raise
            failure = Failure.of(error)
            _let_go(error)
            return failure
        return None

    def _ends_run(self, error: BaseException) -> bool:
        """Whether an error is no cell's own: after it others would fail as well, or another machine may not meet it."""
        return is_full_disk(error) or self.passes_on(error)

    def _run(self, cell: Cell, data: Splits, base: Record, checkpoint: Checkpoint) -> Record:
        peak_device_memory_mb(self.device)  # reset: what ran before, as poisons for other cells, may have taken more
        poison, protected, described = self._protect(cell, data.train)
        memory = {"craft": peak_memory_mb()}
        seconds = {"craft": float(poison.provenance.get("seconds", 0.0)), "train": 0.0, "evaluate": 0.0}
        seed = cell.victim.seed_of(cell.seed)
        model = cell.build_victim(seed, self.device)
        # In the checkpoint's notes, for epochs that a killed run has finished count as well.
        notes = checkpoint.notes
        notes.update(epochs=[], evaluate=0.0, train=0.0, poison=described)
        checkpoint.check_notes = partial(_check_notes, described)
        sample = protected_sample(protected, cell.recipe, len(data.val), seed)
        start, shown = time.monotonic(), 0

        def after_epoch(epoch: int, losses: Sequence[float]) -> str:
            """Evaluate, show the curves and take the time; returns what progress shows behind the loss."""
            nonlocal start, shown
            notes["train"] += time.monotonic() - start
            start = time.monotonic()
            note = ""
            if epoch % cell.recipe.evaluate_every == 0 or epoch == cell.recipe.epochs:
                scores = _scores(model, data, sample, epoch, seed)
                notes["epochs"].append(asdict(scores))
                note = f", val R@10 {scores.val.mean_recall_at_10:.1f}"
            known = {one["epoch"]: as_kind(one, EpochScores) for one in notes["epochs"]}
            # A resumed cell shows the epochs of the killed run, too.
            for number in range(shown + 1, epoch + 1):
                show(number, epoch_values(losses[number - 1], known.get(number)))
            shown = epoch
            _log.debug("%s: epoch %s of %s, loss %.3f%s", cell.title(), epoch, cell.recipe.epochs, losses[-1], note)
            notes["evaluate"] += time.monotonic() - start
            start = time.monotonic()
            return note

        total = steps_per_epoch(protected, cell.recipe) * cell.recipe.epochs
        with self.tracking.curves(base) as show, stage(cell.title(), total, self.time_left, base.key) as progress:
            log = train(
                model,
                protected,
                cell.recipe,
                cell.defense.defense,
                seed=seed,
                clean=data.train,
                after_epoch=after_epoch,
                progress=progress,
                checkpoint=checkpoint,
            )
        seconds |= {stage: notes[stage] for stage in ("train", "evaluate")}
        memory |= {"train": peak_memory_mb(), **peak_device_memory_mb(self.device)}
        return replace(
            base,
            epochs=as_kind(notes["epochs"], tuple[EpochScores, ...]),
            loss=tuple(log.loss),
            poison=described,
            data={"nearest": self._nearest_of(data)},
            changes=log.changes.summary(),
            seconds=seconds,
            peak_memory_mb=memory,
        )

    def _protect(self, cell: Cell, clean: CaptionDataset) -> tuple[Poison, CaptionDataset, dict[str, Any]]:
        """The poison, the protected training set and what the record says of the poison.

        The last are kept, for cells that share them follow each other.
        """
        path = self.poisons.path(cell, clean.fingerprint)
        if self._protected is None or self._protected[0] != path:
            self._protected = None
            source = source_cell(cell)
            crafted = self.poisons.path(source, clean.fingerprint)
            if crafted in self._uncraftable:
                # The same seed would fail the same way, after the same time.
                raise self._uncraftable[crafted][0]
            try:
                whole = self.poisons.get(source, clean, self.device, self.time_left)
            except (Exception, SystemExit) as error:
                if not self._ends_run(error):
                    self._uncraftable[crafted] = error, traceback.format_exc()
                raise
            poison = self.poisons.derive(cell, whole, clean)
            protected = poison.protect(clean)
            self._protected = (path, poison, protected, describe_poison(poison, clean, protected, cell.seed))
        return self._protected[1:]

    def _nearest_of(self, data: Splits) -> float:
        """How far the closest test images are from the training data; measured once for cells that share both."""
        both = data.train.fingerprint, data.test.fingerprint
        if both not in self._nearest:
            self._nearest[both] = nearest_distance(data.train, data.test)
        return self._nearest[both]

    def see_other_runs(self, planned: Sequence[PlannedCell]) -> None:
        """Take note of poisons and records that other runs have finished since this one began."""
        waiting = self.time_left.waiting
        for one in planned if waiting else ():
            if one.record is None and one.key in waiting and one.path.is_file():
                self.time_left.done_elsewhere(one.key)
            if one.poison is not None and str(one.poison) in waiting and one.poison.is_file():
                self.time_left.done_elsewhere(str(one.poison))

    def poison_is_being_made(self, planned: PlannedCell) -> bool:
        """Whether another run is crafting the poison of a cell at this moment."""
        path = planned.poison
        return path is not None and not path.is_file() and is_claimed(path)

    def data_of(self, cell: Cell) -> Splits:
        """The clean data of a cell at its victim's resolution."""
        return self.splits[cell.seed, cell.victim.resolution]


_Kept = Mapping[str, Mapping[str, Path | Record]]


def _records_by_key(folder: Path) -> _Kept:
    """The records in a folder, by the twelve digits of the key that end a file's name, and then by that name.

    A record is given as its file or, if only the pack holds it, as read. The folder is listed once for all cells.
    """
    found: dict[str, dict[str, Path | Record]] = defaultdict(dict)
    files = {path.name: path for path in folder.glob("*.json")}
    for name, place in (read_pack(folder) | files).items():
        found[Path(name).stem.rpartition("_")[2]][name] = place
    return found


def _is_done(planned: PlannedCell) -> bool:
    """Whether a cell has a complete record: since the plan, or saved meanwhile by a driver, which needs no claim."""
    return any(one is not None and one.status == "done" for one in (planned.record, Record.find(planned.path)))


def _check_notes(described: dict[str, Any], notes: dict[str, Any]) -> None:
    """Check the notes of a checkpoint: they have to be of the poison so described, and their values of the right kind.

    A poison that has been crafted anew since the checkpoint may differ by rounding.
    """
    if notes["poison"] != json.loads(json.dumps(described)):
        raise ValueError("it is of another poison")
    as_kind(notes["epochs"], tuple[EpochScores, ...])
    as_kind([notes["train"], notes["evaluate"]], tuple[float, float])


def _let_go(error: BaseException | None) -> None:
    """Clear the tracebacks of an error that is kept: their frames would keep models, noise and GPU memory alive."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _scores(model: Clip, data: Splits, sample: CaptionDataset | None, epoch: int, seed: int) -> EpochScores:
    model = model.for_inference()  # one copy for all
    val, test = evaluate(model, data.val, seed), evaluate(model, data.test, seed)
    return EpochScores(epoch, val, test, None if sample is None else evaluate(model, sample, seed))

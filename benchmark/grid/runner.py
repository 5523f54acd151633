"""A grid of cells: what is there already, what has to run, and running one cell so that nothing is lost."""

import logging
import time
import traceback
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from attacks import Poison
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.distributed import Processes
from benchmark.core.errors import VictimDiverged
from benchmark.core.locks import is_claimed
from benchmark.core.progress import stage
from benchmark.core.strict_json import as_kind
from benchmark.core.time_left import TimeLeft
from benchmark.data import CaptionDataset, Splits
from benchmark.data.nearest import nearest_distance
from benchmark.grid.cells import Cell
from benchmark.grid.poison_store import PoisonStore, describe_poison
from benchmark.grid.protected_sample import protected_sample
from benchmark.grid.provenance import device_name, git_commit, peak_device_memory_mb, peak_memory_mb, versions
from benchmark.grid.records import EpochScores, Record, ResolvedSpec
from benchmark.grid.settings import Rerun
from benchmark.grid.splits import require_apart
from benchmark.grid.tracking import Tracking, epoch_values
from victims.clip import Clip
from victims.evaluate import evaluate
from victims.training import steps_per_epoch, train

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedCell:
    """A cell, where its record lies, and what is known of it.

    Attributes:
        cell: what runs.
        key: its address.
        path: the file of its record.
        record: what lies there, if anything does.
        planned_record: its record as far as it is known before it runs: settings, no scores.
        already_run: it has run for the same command already, done or failed.
    """

    cell: Cell
    key: str
    path: Path
    record: Record | None
    planned_record: Record
    already_run: bool = False

    def has_to_run(self, rerun: Rerun) -> bool:
        """Whether the cell runs: ``missing`` ones always, ``failed`` ones and ``all`` others on demand."""
        if self.record is None:
            return True
        if self.already_run:
            return False
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
        provenance: what every record says of the run: command, preset.
        checkpoint_every: a victim's epochs between two checkpoints; 0 for none.
        tracking: where victims' curves are shown while they train.
        time_left: the poisons to craft and the victims to train; see :mod:`benchmark.grid.estimate`.
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

    def __post_init__(self) -> None:
        self._protected: tuple[Path, Poison, CaptionDataset, dict[str, Any]] | None = None
        self._uncraftable: dict[Path, tuple[Exception, str]] = {}
        self._nearest: dict[tuple[str, str], float] = {}

    def validate(self) -> None:
        """See that every cell can run, before any does.

        Raises:
            UsageError: two splits share an image, too little data for a batch, data that do not suit an attack.
        """
        for splits in {id(splits): splits for splits in self.splits.values()}.values():
            require_apart(splits)
        for cell in self.cells:
            data = self.data_of(cell)
            steps_per_epoch(data.train, cell.recipe)
            cell.attack.attack.check(data.train)

    def plan(self, already_run: Collection[str] = ()) -> list[PlannedCell]:
        """Every cell with its record, if there is one.

        Args:
            already_run: keys of cells that have run for the same command already.

        Raises:
            UsageError: a record cannot be read; or none could be made, as of a plugin's label of two lines.
        """
        planned = []
        for cell in self.cells:
            data = self.data_of(cell)
            key = cell.key([split.fingerprint for split in (data.train, data.val, data.test)])
            planned_record = self._record(cell, data, key)
            planned_record.failed("", "", "").content()  # if this can be saved, so can what comes out
            path = self.out / planned_record.file_name()
            planned.append(
                PlannedCell(cell, key, path, self._known(path, planned_record), planned_record, key in already_run)
            )
        return planned

    def _known(self, path: Path, planned_record: Record) -> Record | None:
        """The record of a cell at its own path, or of the same cell under another spelling, named as it is now."""
        if (record := Record.find(path)) is not None:
            return record
        for other in sorted(self.out.glob(f"*_{planned_record.key[:12]}.json")):
            record = None if other == path else Record.find(other)
            if record is not None and record.key == planned_record.key and record.status == "done":
                now = {
                    name: getattr(planned_record, name)
                    for name in ("dataset", "attack", "defense", "victim", "surrogate")
                }
                return replace(record, **now)
        return None

    def run(self, planned: PlannedCell) -> Record:
        """Run a cell whose claim is held and write its record; an error in it becomes a failed record.

        A record that was complete stays where its cell fails when it runs again. With several processes, all run the
        cell and the first writes the record.

        Raises:
            UsageError: the record cannot be written.
            Exception: an error in one of several processes, which the others would wait for in vain.
        """
        cell, data = planned.cell, self.data_of(planned.cell)
        base = planned.planned_record
        checkpoint = Checkpoint.beside(planned.path, self.checkpoint_every)
        try:
            record = checkpoint.afresh_if_unfit(lambda: self._run(cell, data, base, checkpoint))
            record.content()
        except Exception as error:
            if Processes.current().size > 1 and not isinstance(error, VictimDiverged):
                raise
            where = next((told for kept, told in self._uncraftable.values() if kept is error), traceback.format_exc())
            record = base.failed(type(error).__name__, str(error), where)
            _let_go(error)
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        record = replace(record, provenance={**record.provenance, "finished": finished})
        if Processes.current().is_first:
            if record.status == "done":
                record.save(self.out)
                checkpoint.discard()
            elif planned.record is None or planned.record.status == "failed":
                record.save(self.out)
        return record

    def _run(self, cell: Cell, data: Splits, base: Record, checkpoint: Checkpoint) -> Record:
        poison, protected, described = self._protect(cell, data.train)
        memory = {"craft": peak_memory_mb()}
        seconds = {"craft": float(poison.provenance.get("seconds", 0.0)), "train": 0.0, "evaluate": 0.0}
        seed = cell.victim.seed_of(cell.seed)
        model = cell.victim.build(seed, self.device, cell.recipe.precision, cell.plain_models)
        # In the checkpoint's notes, for epochs that a killed run has finished count as well.
        notes = checkpoint.notes
        notes.update(epochs=[], evaluate=0.0, train=0.0)
        checkpoint.check_notes = _check_notes
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
                curves.log(number, epoch_values(losses[number - 1], known.get(number)))
            shown = epoch
            _log.debug("%s: epoch %s of %s, loss %.3f%s", cell.title(), epoch, cell.recipe.epochs, losses[-1], note)
            notes["evaluate"] += time.monotonic() - start
            start = time.monotonic()
            return note

        total = steps_per_epoch(protected, cell.recipe) * cell.recipe.epochs
        with self.tracking.curves(base) as curves, stage(cell.title(), total, self.time_left, base.key) as progress:
            log = train(
                model,
                protected,
                cell.recipe,
                cell.defense.defense,
                seed=seed,
                clean=data.train if protected.photo is None else data.train.by_row(),
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
            changes={"words_per_caption": log.changes.words_per_caption, "pixel": log.changes.pixel},
            seconds=seconds,
            peak_memory_mb=memory,
        )

    def _protect(self, cell: Cell, clean: CaptionDataset) -> tuple[Poison, CaptionDataset, dict[str, Any]]:
        """The poison, the protected training set and what the record says of the poison.

        The last are kept, for cells that share them follow each other.
        """
        path = self.poisons.path(cell, clean)
        if self._protected is None or self._protected[0] != path:
            self._protected = None
            if path in self._uncraftable:
                # The same seed would fail the same way, after the same time.
                raise self._uncraftable[path][0]
            try:
                poison = self.poisons.get(cell, clean, self.device, self.time_left)
            except Exception as error:
                self._uncraftable[path] = error, traceback.format_exc()
                raise
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
        for one in planned:
            if one.record is None and one.path.is_file():
                self.time_left.done_elsewhere(one.key)
            path = self.poisons.file_of(one.cell, self.data_of(one.cell).train)
            if path is not None and path.is_file():
                self.time_left.done_elsewhere(str(path))

    def poison_is_being_made(self, planned: PlannedCell) -> bool:
        """Whether another run is crafting the poison of a cell at this moment."""
        path = self.poisons.file_of(planned.cell, self.data_of(planned.cell).train)
        return path is not None and not path.is_file() and is_claimed(path)

    def data_of(self, cell: Cell) -> Splits:
        """The clean data of a cell at its victim's resolution."""
        return self.splits[cell.seed, cell.victim.resolution]

    def _record(self, cell: Cell, data: Splits, key: str) -> Record:
        """The record of a cell as far as it is known before it runs."""
        dataset = cell.dataset.choice
        facts = {
            "resolution": data.train.resolution,
            "train_images": len(data.train),
            "val_images": len(data.val),
            "test_images": len(data.test),
            "train_captions": len(data.train.pairs),
            "test_captions": len(data.test.pairs),
            "fingerprint": data.train.fingerprint,
        }
        return Record(
            key=key,
            seed=cell.seed,
            dataset=ResolvedSpec(dataset.spec, dataset.label, {**dataset.params, **facts}),
            attack=cell.attack.choice,
            defense=cell.defense.choice,
            victim=ResolvedSpec(str(cell.victim), cell.victim.name),
            surrogate=ResolvedSpec(str(cell.surrogate), cell.surrogate.name),
            recipe=asdict(cell.recipe),
            provenance={
                **self.provenance,
                "commit": git_commit(),
                "code": cell.code(),
                "models": "plain" if cell.plain_models else "fast",
                "fingerprints": {split.split: split.fingerprint for split in (data.val, data.test)},
                "device": device_name(self.device),
                "threads": torch.get_num_threads(),
                "versions": versions(),
            },
        )


def _check_notes(notes: dict[str, Any]) -> None:
    as_kind(notes["epochs"], tuple[EpochScores, ...])
    as_kind([notes["train"], notes["evaluate"]], tuple[float, float])


def _let_go(error: BaseException | None) -> None:
    """Drop what the frames of an error that is kept would keep alive: models, noise, a GPU's memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _scores(model: Clip, data: Splits, sample: CaptionDataset | None, epoch: int, seed: int) -> EpochScores:
    model = model.for_inference()  # one copy for all
    val, test = evaluate(model, data.val, seed), evaluate(model, data.test, seed)
    return EpochScores(epoch, val, test, None if sample is None else evaluate(model, sample, seed))

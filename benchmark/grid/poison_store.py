"""Poisons by address: crafted once per (data, attack, surrogate, seed), shared by every defense and victim."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from attacks import CraftContext, Poison
from attacks.base import derived, whole_of
from benchmark.core.atomic_files import make_folder, temporary_folder
from benchmark.core.cache_dir import user_path
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.distributed import Processes
from benchmark.core.errors import PoisonError, UsageError, as_usage_error
from benchmark.core.locks import claimed
from benchmark.core.progress import clock, is_shown, stage
from benchmark.core.time_left import Task, TimeLeft
from benchmark.core.version import __version__
from benchmark.data import CaptionDataset
from benchmark.data.difference import Difference, mean_ssim
from benchmark.grid.cells import Cell, ChosenAttack, content_key
from benchmark.grid.measure import crafting_costs
from benchmark.grid.records import ResolvedSpec
from benchmark.probes import Probe

_log = logging.getLogger(__name__)

_TOP_WORDS = 20
_MOST_COMPARED = 1000  # images whose SSIM is measured
_CHUNK = 64  # images compared at a time
_LONGEST = 60  # bytes of a label in a file's name
_MEASURING = 10.0  # seconds after which the time of crafting steps is no longer measured


@dataclass(frozen=True)
class PoisonStore:
    """Poisons in a folder, one file each, named by what they are made from.

    Attributes:
        folder: made when first written to.
        checkpoint_every: crafting rounds between two checkpoints; 0 for none.
        anew: whether nothing is taken that other runs have kept outside the folder, as in a store of a cluster.
    """

    folder: Path
    checkpoint_every: int = 0
    anew: bool = False

    @classmethod
    @contextmanager
    def open(cls, where: str | None, cache: Path, checkpoint_every: int = 0) -> Iterator["PoisonStore"]:
        """The store that ``--poisons`` names: a folder, by default one in the cache; ``off`` keeps nothing.

        Raises:
            UsageError: the cache cannot be written to.
        """
        if where != "off":
            yield cls(user_path(where) if where else cache / "poisons", checkpoint_every)
            return
        # Beside the data, not where the system keeps temporary files: that may be memory.
        make_folder(cache)
        processes = Processes.current()
        with temporary_folder(cache, "poisons") if processes.is_first else nullcontext() as folder:
            yield cls(Path(processes.broadcast_object(str(folder))), checkpoint_every, anew=True)

    def path(self, cell: Cell, fingerprint: str) -> Path:
        """Where the poison of a cell lies, crafted or not; ``fingerprint`` is that of the clean training set."""
        key = content_key(fingerprint, cell.poison_identity())
        label = "".join(c for c in cell.attack.choice.label.lower() if c.isalnum())
        label = label.encode()[:_LONGEST].decode(errors="ignore")  # file systems count bytes
        return self.folder / f"{label}-seed{cell.seed}-{key[:20]}.safetensors"

    def file_of(self, cell: Cell, train: CaptionDataset) -> Path | None:
        """The file of the cell's poison, or of the one it is a part of, existing or not; ``None`` for clean data."""
        return None if cell.attack.is_clean else self.path(source_cell(cell), train.fingerprint)

    def discard_if_cut_short(self, path: Path) -> None:
        """Remove a file that is no whole poison, so that it counts as missing: in the plan, and for all workers.

        Raises:
            UsageError: it cannot be removed.
        """
        if Processes.current().is_first and path.is_file() and not Poison.is_whole(path):
            with claimed(path, wait=False) as ours, as_usage_error(f"cannot remove {path}"):
                if ours and not Poison.is_whole(path):
                    _log.warning("%s was cut short and is removed", path)
                    path.unlink(missing_ok=True)

    def get(self, cell: Cell, train: CaptionDataset, device: torch.device, time_left: TimeLeft | None = None) -> Poison:
        """The cell's poison: read if it is there and whole, else crafted and kept.

        Args:
            cell: whose poison.
            train: the clean training set.
            device: where to craft.
            time_left: the tasks of a run, this poison among them under its file's path; by default crafting is timed
                as a run of its own.

        Raises:
            UsageError: the data do not suit the attack, the file cannot be read now, or the folder not written to.
            VictimDiverged: the surrogate diverged.
        """
        if cell.attack.attack.part_of:
            # The part costs nothing, so only the whole is kept: the whole's own cells use it as well.
            return self.derive(cell, self.get(source_cell(cell), train, device, time_left), train)
        if cell.attack.is_clean:
            return self._craft(cell, train, device, Checkpoint(), TimeLeft())
        path, processes = self.path(cell, train.fingerprint), Processes.current()
        poison = _stored(path, train, logging.DEBUG) if processes.is_first else None
        if processes.broadcast_object(poison is not None):
            if time_left is not None:
                time_left.done_elsewhere(str(path))
            if processes.is_first:  # of a run that was killed once it had saved the poison
                Checkpoint.beside(path, self.checkpoint_every).discard()
        else:
            poison = self._make(path, cell, train, device, time_left)
        _log.debug("poison of %s, seed %s: %s", cell.attack.choice.title, cell.seed, path)
        # Read even if it was crafted just now: the noise is then mapped from the file, and what it was crafted in is
        # gone.
        return poison or Poison.load(path)

    def _make(
        self, path: Path, cell: Cell, train: CaptionDataset, device: torch.device, time_left: TimeLeft | None
    ) -> Poison | None:
        """Craft a poison and save it at ``path``, unless another run has saved it there meanwhile.

        Returns:
            In the first process, the other run's poison, if there is one. ``None`` if the poison was crafted here, and
            in all other processes.
        """
        processes = Processes.current()
        make_folder(self.folder)
        checkpoint = Checkpoint.beside(path, self.checkpoint_every)
        with claimed(path, wait=True, tidy=True) if processes.is_first else nullcontext():
            theirs = _stored(path, train) if processes.is_first else None
            if not processes.broadcast_object(theirs is not None):
                if time_left is None and processes.broadcast_object(is_shown()):
                    costs = crafting_costs(cell, train, device, time.monotonic() + _MEASURING)
                    time_left = TimeLeft({str(path): Task(str(path), costs)})
                poison = self._craft(cell, train, device, checkpoint, time_left or TimeLeft())
                if processes.is_first:
                    poison.save(path)
            elif time_left is not None:
                time_left.done_elsewhere(str(path))
            if processes.is_first:
                checkpoint.discard()
            processes.broadcast_object(None)  # the file is there
        return theirs

    def derive(self, cell: Cell, whole: Poison, train: CaptionDataset) -> Poison:
        """The cell's poison from the one that lies in its file; for most attacks they are the same.

        Args:
            cell: whose poison.
            whole: the poison of :func:`source_cell`.
            train: the clean training set.
        """
        return derived(cell.attack.attack, whole, train, self._context(cell, torch.device("cpu")))

    def _context(self, cell: Cell, device: torch.device) -> CraftContext:
        return CraftContext(
            lambda seed: cell.build_surrogate(seed, device),
            seed=cell.seed,
            workdir=self.folder,
        )

    def _craft(
        self,
        cell: Cell,
        train: CaptionDataset,
        device: torch.device,
        checkpoint: Checkpoint,
        time_left: TimeLeft,
    ) -> Poison:
        attack, start = cell.attack.attack, time.monotonic()
        label, path = f"crafting {cell.attack.choice.label}, seed {cell.seed}", self.path(cell, train.fingerprint)
        with stage(label, attack.progress_steps(train), time_left, str(path)) as progress:
            context = self._context(cell, device)
            context = replace(context, progress=progress, checkpoint=checkpoint)
            poison = checkpoint.afresh_if_unfit(lambda: attack.craft(train, context))
        if not isinstance(poison, Poison):
            raise UsageError(f"attack {cell.attack.choice.spec}: craft returned {type(poison).__name__}, not a Poison")
        seconds = time.monotonic() - start + checkpoint.earlier
        provenance = {
            "attack": str(cell.attack.choice.spec),
            "version": attack.version,
            "params": dict(cell.attack.choice.params),
            "surrogate": str(cell.surrogate),
            "precision": cell.recipe.precision,
            "models": "plain" if cell.plain_models else "fast",
            "seed": cell.seed,
            "seconds": seconds,
            "package": __version__,
            **poison.provenance,
            "file": path.name,
        }
        if not cell.attack.is_clean:
            _log.info("crafted %s, seed %s, in %s", cell.attack.choice.title, cell.seed, clock(seconds))
        return replace(poison, provenance=provenance)


def source_cell(cell: Cell) -> Cell:
    """The cell whose poison has to be crafted: the same cell with the attack that its own attack is a part of.

    If the cell's attack crafts its own poison, the cell itself.

    Raises:
        UsageError: as for :func:`attacks.base.whole_of`.
    """
    if (name := cell.attack.attack.part_of) is None:
        return cell
    attack, params = whole_of(cell.attack.attack, cell.attack.choice.params)
    choice = ResolvedSpec(name, attack.label(), params, attack.describe())
    return replace(cell, attack=ChosenAttack(attack, choice))


def read_poison(path: Path, fingerprint: str) -> Poison:
    """The poison in a file of a store; ``fingerprint`` is that of the clean training set.

    Raises:
        PoisonError: it is damaged, of other data, or another than the one that the file's name stands for.
    """
    poison = Poison.load(path)
    if poison.fingerprint != fingerprint:
        raise PoisonError(f"{path} holds a poison of other data")
    if (file := poison.provenance.get("file", path.name)) != path.name:
        raise PoisonError(f"{path} holds another poison, that of {file}")
    return poison


def _stored(path: Path, train: CaptionDataset, level: int = logging.WARNING) -> Poison | None:
    """The poison in a file; ``None`` if there is none, or one that :func:`read_poison` refuses.

    Raises:
        UsageError: the file cannot be read now. It may be whole, so that none must take its place.
    """
    with as_usage_error(f"cannot read {path}"):
        if not path.is_file():
            return None
        path.open("rb").close()
    try:
        return read_poison(path, train.fingerprint)
    except PoisonError as error:
        _log.log(level, "%s; crafting it anew", error)
        return None


def describe_poison(poison: Poison, clean: CaptionDataset, protected: CaptionDataset, seed: int) -> dict[str, Any]:
    """What a record says of its poison: bound, largest |δ| (1/255), PSNR (dB), SSIM, the most frequent trigger words,
    probes.

    Args:
        poison: with noise, with a trigger, or with neither.
        clean: the training set that it belongs to.
        protected: the same with the poison.
        seed: the cell's, for the probes.
    """
    if poison.delta is None and poison.trigger is None:
        return {}
    base = clean.by_row() if poison.per_row else clean
    difference = Difference()
    for start in range(0, len(base), _CHUNK):
        rows = slice(start, start + _CHUNK)
        difference.add(base.images[rows], protected.images[rows])
    words = Counter(word for trigger in poison.trigger or [] for word in trigger.split())
    return {
        "eps": poison.eps,
        "per": "row" if poison.per_row else "image",
        "largest": poison.largest,
        "psnr": difference.psnr,
        "ssim": mean_ssim(base.images, protected.images, _MOST_COMPARED) if difference.psnr else None,
        "trigger_words": dict(sorted(words.items(), key=lambda item: (-item[1], item[0]))[:_TOP_WORDS]),
        "distinct_trigger_words": len(words),
        "trigger_word_count": words.total(),
        "loss_per_round": poison.provenance.get("loss_per_round", []),
        **_probed(poison, base, seed),
    }


def _probed(poison: Poison, base: CaptionDataset, seed: int) -> dict[str, Any]:
    """What probes read from a poison; nothing if there are too few images that share words."""
    probe = Probe.of(base.captions, base.photo, seed)
    if probe is None:
        return {}
    readings = {} if poison.trigger is None else {"trigger": probe.read_triggers(poison.trigger)}
    readings |= {} if poison.delta is None else {"noise": probe.read_noise(poison.delta)}
    return {
        f"probe_{part}_{name}": value for part, reading in readings.items() for name, value in vars(reading).items()
    }

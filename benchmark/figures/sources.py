"""From a record back to the data and the poison that it names."""

from dataclasses import dataclass, fields
from pathlib import Path

import torch

from attacks import ATTACKS, Poison
from benchmark.cells import Cell, ChosenAttack, ChosenDefense, choose_dataset
from benchmark.data import CaptionDataset
from benchmark.errors import PoisonError, UsageError
from benchmark.poisons import PoisonStore, whole
from benchmark.records import Record
from benchmark.spec import parse_spec
from defenses import DEFENSES
from victims.clip import Architecture
from victims.recipe import Recipe


@dataclass(frozen=True)
class Sources:
    """Where poisons and prepared images are kept.

    Attributes:
        poisons: folder of poisons, as ``run`` fills it.
        cache: folder of rendered and resized images.
    """

    poisons: Path
    cache: Path

    def find(self, record: Record) -> tuple[CaptionDataset, Poison]:
        """The clean training set and the poison of a record; nothing is crafted.

        Raises:
            PoisonError: the poison is not in the store, or not readable.
            UsageError: the data cannot be read, or are not those of the record.
        """
        cell, store = _cell(record), PoisonStore(self.poisons)
        # Looked for first: images may take minutes to prepare.
        path = store.address(whole(cell), str(record.dataset.params["fingerprint"]))
        if not path.is_file():
            raise PoisonError(
                f"the poison of {record.attack.label}, seed {record.seed}, is not in {self.poisons}: "
                f"no file {path.name}; give --poisons the folder that the run used, or run the cell again"
            )
        train = cell.dataset.source.load(int(record.dataset.params["resolution"]), self.cache).train
        if train.fingerprint != record.dataset.params["fingerprint"]:
            raise UsageError(f"data set {record.dataset.spec} is no longer what {record.file_name()} was made with")
        return train, store.get(cell, train, torch.device("cpu"))


def _cell(record: Record) -> Cell:
    """The record's cell, as far as its data and poison go."""
    attack = ATTACKS.entry(parse_spec(record.attack.spec).name).factory(**record.attack.params)
    known = {field.name for field in fields(Recipe)}
    return Cell(
        dataset=choose_dataset(record.dataset.spec),
        attack=ChosenAttack(attack, record.attack),
        defense=ChosenDefense(DEFENSES.build(parse_spec("none")), record.defense),
        victim=Architecture.from_spec(parse_spec(record.victim.spec)),
        surrogate=Architecture.from_spec(parse_spec(record.surrogate.spec)),
        recipe=Recipe(**{key: value for key, value in record.recipe.items() if key in known}),
        seed=record.seed,
    )

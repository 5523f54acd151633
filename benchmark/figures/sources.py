"""From a record back to the data and the poison that it names."""

from dataclasses import dataclass
from pathlib import Path

from attacks import ATTACKS, Poison
from benchmark.core.errors import PoisonError, UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import CaptionDataset
from benchmark.grid.cells import Cell, ChosenAttack, ChosenDefense
from benchmark.grid.choices import choose_dataset
from benchmark.grid.poison_store import PoisonStore, read_poison, source_cell
from benchmark.grid.records import Record
from defenses import DEFENSES
from victims.architecture import Architecture
from victims.recipe import Recipe


class PoisonMissing(PoisonError):
    """A poison that is not in the store."""


class AttackUnknown(PoisonMissing):
    """The attack is one of a plug-in that was not named, so where its poison lies cannot be said."""


@dataclass(frozen=True)
class ArtifactPaths:
    """Where poisons and prepared images are kept.

    Attributes:
        poisons: folder of poisons, as ``run`` fills it.
        cache: folder of rendered and resized images.
        drawn: folder of PNG figures drawn earlier, which the report shows where a poison is no longer there.
    """

    poisons: Path
    cache: Path
    drawn: Path | None = None

    def find(self, record: Record) -> tuple[CaptionDataset, Poison]:
        """The clean training set and the poison of a record; nothing is crafted.

        Raises:
            PoisonMissing: the poison is not in the store.
            AttackUnknown: its attack is one of a plug-in that was not named.
            PoisonError: it is there, but not readable, beyond its bound, or another than its file's name says.
            UsageError: the data cannot be read, or are not those of the record.
        """
        fingerprint = record.dataset.params["fingerprint"]
        cell = _cell(record)
        # Looked for first: images may take minutes to prepare.
        store = PoisonStore(self.poisons)
        path = store.path(source_cell(cell), fingerprint)
        if not path.is_file():
            raise PoisonMissing(
                f"the poison of {record.attack.label}, seed {record.seed}, is not in {self.poisons}: "
                f"no file {path.name}; give --poisons the folder that the run used, or run the cell again"
            )
        whole = read_poison(path, fingerprint)
        train = cell.dataset.source.load(int(record.dataset.params["resolution"]), self.cache).train
        if train.fingerprint != fingerprint:
            raise UsageError(f"data set {record.dataset.spec} is no longer what {record.file_name()} was made with")
        return train, store.derive(cell, whole, train)


def _cell(record: Record) -> Cell:
    """The record's cell, as far as its data and poison go.

    Raises:
        UsageError: an attack, model or data set that this version does not have.
    """
    name = parse_spec(record.attack.spec).name
    if all(entry.name != name for entry in ATTACKS.entries()):
        raise AttackUnknown(f"attack {record.attack.spec} is not known here; --plugin names the file it comes from")
    try:
        attack = ATTACKS.restore(name, record.attack.params)
    except PoisonError as error:
        raise PoisonMissing(f"attack {record.attack.spec}: {error}") from error
    except TypeError as error:
        raise UsageError(
            f"{record.file_name()} is of another version of attack {record.attack.spec}: {error}"
        ) from error
    return Cell(
        dataset=choose_dataset(record.dataset.spec).for_seed(record.seed),
        attack=ChosenAttack(attack, record.attack),
        defense=ChosenDefense(DEFENSES.build(parse_spec("none")), record.defense),
        victim=Architecture.from_spec(parse_spec(record.victim.spec)),
        surrogate=Architecture.from_spec(parse_spec(record.surrogate.spec)),
        recipe=Recipe(precision=record.recipe["precision"]),  # all that a poison depends on
        seed=record.seed,
        plain_models=record.provenance.get("models") == "plain",
    )

"""What generated and randomly split data sets share: a seed, which is the cell's unless it is given."""

from dataclasses import dataclass, replace

from benchmark.core.errors import UsageError
from benchmark.core.parameters import ranged
from benchmark.data import DATASETS, DatasetSource


@dataclass(frozen=True, kw_only=True)
class SeededSource(DatasetSource):
    """A data set in which chance decides something.

    Attributes:
        seed: decides every random choice. ``None`` (the default) means the seed of the cell: each seed of a run has a
            data set of its own, so the spread between seeds includes the data. A number fixes one data set for all.
    """

    seed: int | None = ranged(None, 0)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            raise TypeError(
                f"{cls.__name__} has an __init__ of its own, which does not take seed; write its parameters as fields "
                "below @dataclass(frozen=True, kw_only=True)"
            )

    def for_seed(self, seed: int) -> "SeededSource":
        """The data set of a cell's seed; itself if its seed is given."""
        return replace(self, seed=seed) if self.seed is None else self

    @property
    def chosen_seed(self) -> int:
        """The seed.

        Raises:
            UsageError: it is ``None``, and no cell has replaced it.
        """
        if self.seed is None:
            name = DATASETS.name_of(type(self))
            raise UsageError(
                f"data set {name}: seed=none means the seed of a cell, and there is no cell here; give a number"
            )
        return self.seed

"""Data sets: each source of captioned images registers itself and loads as :class:`CaptionDataset` splits."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from benchmark.core.parameters import check_ranges
from benchmark.core.registrable import parameters_of
from benchmark.core.registry import Registry
from benchmark.core.spec import Spec
from benchmark.data.dataset import CaptionDataset, LazyImages, Splits

__all__ = ["DATASETS", "CaptionDataset", "DatasetSource", "LazyImages", "Splits"]


class DatasetSource(ABC):
    """A data set before it is loaded: a dataclass of checked parameters. :meth:`load` makes the splits.

    Attributes:
        version: of the code that makes the data; raise it when images or captions change.
        licence: SPDX name of the licence of images and captions; ``None`` if the user's files decide it.
        attribution: whom that licence asks to name, with what was done to their work; ``None`` if it asks nothing.
    """

    version: ClassVar[int] = 1
    licence: ClassVar[str | None] = None
    attribution: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        check_ranges(f"data set {DATASETS.name_of(type(self))}", self)

    def for_seed(self, seed: int) -> "DatasetSource":
        """The data set that cells of a seed use; the same object where all seeds share one data set.

        Where it is another object, records name ``seed`` among its parameters.
        """
        return self

    def written_name(self) -> str:
        """The registered name and the parameters that differ from their defaults, e.g. ``scenes[train=64]``."""
        known = parameters_of(type(self)).items()
        values = {key: getattr(self, key) for key, parameter in known if getattr(self, key) != parameter.default}
        return str(Spec(DATASETS.name_of(type(self)), values))

    @abstractmethod
    def load(self, resolution: int, cache: Path) -> Splits:
        """Load images and captions as three splits.

        Args:
            resolution: height and width in pixels.
            cache: folder for rendered or resized images, found again by their content.

        Raises:
            UsageError: the files are missing or cannot be read; the message names the file.
        """


DATASETS: Registry[DatasetSource] = Registry("data set", "benchmark.data", DatasetSource)

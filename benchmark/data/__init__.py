"""Data sets: each source of captioned images registers itself and loads as :class:`CaptionDataset` splits."""

from abc import ABC, abstractmethod
from pathlib import Path

from benchmark.core.parameters import check_ranges
from benchmark.core.registry import Registry
from benchmark.data.dataset import CaptionDataset, LazyImages, Splits

__all__ = ["DATASETS", "CaptionDataset", "DatasetSource", "LazyImages", "Splits"]


class DatasetSource(ABC):
    """A data set before it is loaded: a dataclass of checked parameters. :meth:`load` makes the splits."""

    def __post_init__(self) -> None:
        check_ranges(f"data set {DATASETS.name_of(type(self))}", self)

    @abstractmethod
    def load(self, resolution: int, cache: Path) -> Splits:
        """Load images and captions as three splits.

        Args:
            resolution: height and width in pixels.
            cache: folder for rendered or resized images, found again by their content.

        Raises:
            UsageError: the files are missing or cannot be read; the message names the file.
        """


DATASETS: Registry[DatasetSource] = Registry("data set", "benchmark.data")

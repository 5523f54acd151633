"""Data sets: each file registers one source of captioned images, all read through :class:`CaptionDataset`."""

from abc import ABC, abstractmethod
from pathlib import Path

from benchmark.core.registry import Registry
from benchmark.data.dataset import CaptionDataset, LazyImages, Splits

__all__ = ["DATASETS", "CaptionDataset", "DatasetSource", "LazyImages", "Splits"]


class DatasetSource(ABC):
    """A data set before it is loaded: the constructor checks parameters, :meth:`load` makes the splits."""

    @abstractmethod
    def load(self, resolution: int, cache: Path) -> Splits:
        """Images at ``resolution`` pixels squared, captions and splits.

        Args:
            resolution: height and width in pixels.
            cache: folder for rendered or resized images, reused by content.

        Raises:
            UsageError: the files are missing or cannot be read; the message names the file.
        """


DATASETS: Registry[DatasetSource] = Registry("data set", "benchmark.data")

"""What all data sets of image files share: their parameters, cuts from train, and how they are loaded."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError
from benchmark.core.parameters import ranged
from benchmark.core.seeding import numpy_generator
from benchmark.data import DATASETS, DatasetSource, Splits
from benchmark.data.image_files import CaptionedFile, load_files


class FileSource(DatasetSource):
    """A data set of image files. A subclass says in :meth:`read` which files belong to which split.

    Attributes:
        skip_bad: leave out images that are missing, cannot be read or have no caption, and list them.
    """

    skip_bad: bool

    @property
    def name(self) -> str:
        """The registered name, which also begins the names of its cache entries."""
        return DATASETS.name_of(type(self))

    @abstractmethod
    def read(self) -> dict[str, list[CaptionedFile]]:
        """The captioned files of ``train`` and, where they exist, ``test`` and ``val``; no image is opened yet.

        Raises:
            OSError: a folder cannot be read.
            UsageError: captions are missing or cannot be read; the message names the file.
        """

    def load(self, resolution: int, cache: Path) -> Splits:
        """The images, resized and centre-cropped; decoded once and then read from the cache.

        Raises:
            UsageError: a folder, captions or an image is missing or cannot be read, train is too small to be cut, or
                the cache folder cannot be written; the message names the file.
        """
        try:
            files = self.read()
        except OSError as error:
            raise UsageError(f"folder {error.filename} cannot be read: {error.strerror or error}") from error
        return load_files(cache, self.written_name(), self.name, self.split(files), resolution, self.skip_bad)

    def split(self, files: dict[str, list[CaptionedFile]]) -> dict[str, list[CaptionedFile]]:
        """The files of all three splits."""
        return files


@dataclass(frozen=True, kw_only=True)
class UserFiles(FileSource):
    """Image files of the user's own. If they have no val or test, it is cut from train.

    Attributes:
        seed: decides which images are cut from train for val and test, at least 0.
        val_fraction: share of the training images that is cut for val, and for test, between 0 and 1.
        skip_bad: see :class:`FileSource`.

    Raises:
        UsageError: ``seed`` or ``val_fraction`` is out of range.
    """

    seed: int = ranged(0, 0)
    val_fraction: float = ranged(0.1, above=0, below=1)
    skip_bad: bool = False

    def split(self, files: dict[str, list[CaptionedFile]]) -> dict[str, list[CaptionedFile]]:
        """The files of all three splits; those that are missing are drawn from train by the seed. All keep their order.

        Raises:
            UsageError: a split is missing and train has too few images.
        """
        missing = [split for split in ("val", "test") if not files.get(split)]
        return self._cut(files, missing) if missing else files

    def _cut(self, files: dict[str, list[CaptionedFile]], missing: list[str]) -> dict[str, list[CaptionedFile]]:
        train, name = files["train"], " and ".join(missing)
        least = len(missing) + 1
        if len(train) < least:
            written = self.written_name()
            verb = "is" if len(missing) == 1 else "are"
            raise UsageError(
                f"{written}: {name} {verb} cut from train, which needs at least {least} images and has {len(train)}"
            )
        count = min(max(1, round(self.val_fraction * len(train))), (len(train) - 1) // len(missing))
        order = numpy_generator(self.seed, "files", "val").permutation(len(train)).tolist()
        cut = {split: sorted(order[count * place : count * (place + 1)]) for place, split in enumerate(missing)}
        chosen = {index for indices in cut.values() for index in indices}
        rest = [file for index, file in enumerate(train) if index not in chosen]
        return {**files, "train": rest} | {split: [train[index] for index in cut[split]] for split in missing}


@dataclass(frozen=True)
class FilePerSplit(UserFiles):
    """Images whose captions are in one file for each split. A subclass says in :meth:`read_file` how to read it.

    Attributes:
        train: caption file of the training images.
        test: caption file of the test images; ``None`` cuts them from the training images.
        val: caption file of the validation images; ``None`` cuts them from the training images.
        images: folder where the file names start; ``None`` for the folder that belongs to each caption file.
    """

    train: str
    test: str | None = None
    val: str | None = None
    images: str | None = None

    def read(self) -> dict[str, list[CaptionedFile]]:
        """The images of each caption file."""
        images = user_path(self.images) if self.images else None
        sources = {"train": self.train, "test": self.test, "val": self.val}
        given = {split: user_path(source) for split, source in sources.items() if source is not None}
        return {split: self.read_file(source, images) for split, source in given.items()}

    @abstractmethod
    def read_file(self, source: Path, images: Path | None) -> list[CaptionedFile]:
        """The images of one caption file, in its order.

        Args:
            source: the caption file.
            images: folder where its file names start; ``None`` for the folder that belongs to it.

        Raises:
            UsageError: the file is missing or cannot be read, or names an image outside the folder; the message names
                the file.
        """

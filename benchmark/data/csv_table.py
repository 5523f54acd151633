"""A user's own images, listed in a table of file paths and captions."""

from pathlib import Path

from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError
from benchmark.data import DATASETS, DatasetSource, Splits
from benchmark.data.caption_files import read_rows
from benchmark.data.image_files import CaptionedFile, captioned_file, check_cut, cut_val, load_files
from benchmark.data.naming import written_name

# Of paths and captions: open_clip's names, and those of the paper's own code.
_COLUMNS = (("filepath", "title"), ("images", "caption"))


@DATASETS.register("csv", order=20)
class CsvTable(DatasetSource):
    """Images of your own, from tables with columns ``filepath`` and ``title``, or ``images`` and ``caption``.

    The first are open_clip's, the second those of the paper's own code. Tables are separated by tabs or commas. Rows
    with the same path are the captions of one image. As in open_clip, paths may be absolute and may lead anywhere;
    relative ones start at the table's folder, or at ``images``.
    Images are resized and centre-cropped.

    Args:
        train: table of the training images.
        test: table of the test images.
        val: table of the validation images; ``None`` cuts them from the training images.
        images: folder where relative paths start; ``None`` for the folder of each table.
        seed: decides which images are cut from train for val, at least 0.
        val_fraction: share of the training images that is cut for val, between 0 and 1.
        skip_bad: leave out images that are missing, cannot be read or have no caption, and list them.

    Raises:
        UsageError: a parameter is out of range.
    """

    def __init__(
        self,
        train: str,
        test: str,
        val: str | None = None,
        images: str | None = None,
        seed: int = 0,
        val_fraction: float = 0.1,
        skip_bad: bool = False,
    ) -> None:
        check_cut("csv", seed, val_fraction)
        self.train, self.test, self.val, self.images = train, test, val, images
        self.seed, self.val_fraction, self.skip_bad = seed, val_fraction, skip_bad

    def load(self, resolution: int, cache: Path) -> Splits:
        """The images at ``resolution`` pixels squared, decoded once and then read from the cache.

        Raises:
            UsageError: a table or an image is missing or cannot be read, or the cache folder cannot be written; the
                message names the file.
        """
        train, test = self._read(self.train), self._read(self.test)
        if self.val is None:
            train, val = cut_val(train, self.seed, self.val_fraction, self.train)
        else:
            val = self._read(self.val)
        files = {"train": train, "val": val, "test": test}
        return load_files(cache, written_name("csv", self), "csv", files, resolution, self.skip_bad)

    def _read(self, table: str) -> list[CaptionedFile]:
        return read_table(user_path(table), user_path(self.images) if self.images else None)


def read_table(table: Path, images: Path | None = None) -> list[CaptionedFile]:
    """The images of a table in order of first mention, each with all its captions.

    Args:
        table: the table.
        images: folder where relative paths start; ``None`` for the table's own.

    Raises:
        UsageError: the table is missing, cannot be read, lacks a column or has no rows.
    """
    folder = table.parent if images is None else images
    rows = read_rows(table, [path for path, _ in _COLUMNS], folder)
    columns = next((pair for pair in _COLUMNS if set(pair) <= set(rows.columns)), None)
    if columns is None:
        wanted = " or ".join(" and ".join(pair) for pair in _COLUMNS)
        raise UsageError(f"caption file {table} needs the columns {wanted}; found: {', '.join(rows.columns)}")
    captions: dict[Path, list[str]] = {}
    for path, caption in zip(rows[columns[0]].str.strip(), rows[columns[1]], strict=True):
        if not path:
            raise UsageError(f"caption file {table} has a row without a path in {columns[0]}")
        captions.setdefault(folder / path, []).append(caption)
    return [captioned_file(path, texts, table) for path, texts in captions.items()]

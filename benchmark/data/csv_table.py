"""A user's own images, listed in a table of file paths and captions."""

from dataclasses import dataclass
from pathlib import Path

from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError
from benchmark.data import DATASETS
from benchmark.data.caption_files import read_rows
from benchmark.data.file_source import UserFiles
from benchmark.data.image_files import CaptionedFile, captioned_file

# Names of the path and caption columns: open_clip's, and those of the paper's own code.
_COLUMNS = (("filepath", "title"), ("images", "caption"))


@DATASETS.register("csv", order=20)
@dataclass(frozen=True)
class CsvTable(UserFiles):
    """Images of your own, from tables with columns ``filepath`` and ``title``, or ``images`` and ``caption``.

    The first pair is open_clip's, the second that of the paper's own code. Tables are separated by tabs or commas. Rows
    with the same path are the captions of one image. As in open_clip, paths may be absolute and may lead anywhere.

    Attributes:
        train: table of the training images.
        test: table of the test images.
        val: table of the validation images; ``None`` cuts them from the training images.
        images: folder where relative paths start; ``None`` for the folder of each table.
    """

    name = "csv"

    train: str
    test: str
    val: str | None = None
    images: str | None = None

    def read(self) -> dict[str, list[CaptionedFile]]:
        """The images of each table."""
        tables = {"train": self.train, "test": self.test, "val": self.val}
        return {split: self._read(table) for split, table in tables.items() if table is not None}

    def _read(self, table: str) -> list[CaptionedFile]:
        return read_table(user_path(table), user_path(self.images) if self.images else None)


def read_table(table: Path, images: Path | None = None) -> list[CaptionedFile]:
    """The images of a table in order of first mention, each with all its captions.

    Args:
        table: the table.
        images: folder where relative paths start; ``None`` for the table's folder.

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

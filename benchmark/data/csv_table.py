"""A user's own images, listed in open_clip's table of file paths and captions."""

import warnings
from pathlib import Path

from benchmark.data import DATASETS, DatasetSource, Splits
from benchmark.data.files import CaptionedFile, captioned_file, check_cut, cut_val, load_files
from benchmark.data.naming import written_name
from benchmark.errors import UsageError

PATH_COLUMN, CAPTION_COLUMN = "filepath", "title"


@DATASETS.register("csv", order=20)
class CsvTable(DatasetSource):
    """Images of your own, from tables with the columns ``filepath`` and ``title`` as open_clip reads them.

    Tables are separated by tabs or commas. Rows with the same ``filepath`` are the captions of one image; relative
    paths start at the table's folder. Images are resized and centre-cropped.

    Args:
        train: table of the training images.
        test: table of the test images.
        val: table of the validation images; ``None`` cuts them from the training images.
        seed: decides which images are cut from train for val, at least 0.
        val_fraction: share of the training images that is cut for val, between 0 and 1.

    Raises:
        UsageError: a parameter is out of range.
    """

    def __init__(self, train: str, test: str, val: str | None = None, seed: int = 0, val_fraction: float = 0.1) -> None:
        check_cut("csv", seed, val_fraction)
        self.train, self.test, self.val, self.seed, self.val_fraction = train, test, val, seed, val_fraction

    def load(self, resolution: int, cache: Path) -> Splits:
        """The images at ``resolution`` pixels squared, decoded once and then read from the cache.

        Raises:
            UsageError: a table or an image is missing or cannot be read, or the cache folder cannot be written; the
                message names the file.
        """
        train, test = read_table(Path(self.train)), read_table(Path(self.test))
        if self.val is None:
            train, val = cut_val(train, self.seed, self.val_fraction, Path(self.train))
        else:
            val = read_table(Path(self.val))
        files = {"train": train, "val": val, "test": test}
        return load_files(cache, written_name("csv", self), "csv", files, resolution)


def read_table(table: Path) -> list[CaptionedFile]:
    """The images of a table in order of first mention, each with all its captions.

    Raises:
        UsageError: the table is missing, cannot be read, lacks a column or holds no captions.
    """
    import pandas as pd

    try:
        with table.open(encoding="utf-8-sig") as file:
            separator = "\t" if "\t" in file.readline() else ","
        # Everything is text: a caption that reads "NA" or "12" stays what it is.
        with warnings.catch_warnings():
            # Rows longer than the header (a comma in an unquoted caption) must not be cut short silently.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            rows = pd.read_csv(
                table, sep=separator, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig"
            ).fillna("")
    except FileNotFoundError as error:
        raise UsageError(f"caption file {table} does not exist") from error
    except pd.errors.EmptyDataError as error:
        raise UsageError(f"caption file {table} is empty") from error
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise UsageError(f"caption file {table} cannot be read: {' '.join(str(error).split())}") from error
    rows.columns = rows.columns.str.strip()
    if missing := [column for column in (PATH_COLUMN, CAPTION_COLUMN) if column not in rows]:
        found = ", ".join(rows.columns)
        raise UsageError(f"caption file {table} lacks the column {' and '.join(missing)}; found: {found}")
    if rows.empty:
        raise UsageError(f"caption file {table} holds no captions: a header and no rows")
    captions: dict[str, list[str]] = {}
    for path, caption in zip(rows[PATH_COLUMN], rows[CAPTION_COLUMN], strict=True):
        captions.setdefault(path.strip(), []).append(caption)
    if "" in captions:
        raise UsageError(f"caption file {table} has a row without a {PATH_COLUMN}")
    return [captioned_file(table.parent / path, texts, table) for path, texts in captions.items()]

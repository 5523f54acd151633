"""A user's own images, listed in a table of file paths and captions."""

import logging
from dataclasses import dataclass
from pathlib import Path

from benchmark.core.errors import UsageError
from benchmark.data import DATASETS
from benchmark.data.caption_files import captions_of_cell, is_file, read_rows
from benchmark.data.file_source import FilePerSplit
from benchmark.data.image_files import CaptionedFile, captioned_file

_log = logging.getLogger(__name__)
# Names of the path and caption columns: open_clip's, those of the paper's own code, and those of Flickr8k at Kaggle.
_COLUMNS = (("filepath", "title"), ("images", "caption"), ("image", "caption"))


@DATASETS.register("csv", order=20)
@dataclass(frozen=True)
class CsvTable(FilePerSplit):
    """Images of your own, from tables with a column of image files and one of captions.

    Known are ``filepath`` and ``title`` (open_clip), ``images`` and ``caption`` (the paper's own code), and ``image``
    and ``caption`` (Flickr8k at Kaggle). Tables are separated by tabs, commas, semicolons or bars. Rows with the same
    path are the captions of one image. As in open_clip, paths may be absolute and may lead anywhere.

    Parameters are those of :class:`benchmark.data.file_source.FilePerSplit`, and two more.

    Attributes:
        image_column: name of the column of image files; ``None`` for a known one.
        caption_column: name of the column of captions; ``None`` for a known one.
    """

    image_column: str | None = None
    caption_column: str | None = None

    def read_file(self, source: Path, images: Path | None) -> list[CaptionedFile]:
        """The images of a table; see :func:`read_table`."""
        return read_table(source, images, self.image_column, self.caption_column)


def read_table(
    table: Path, images: Path | None = None, image_column: str | None = None, caption_column: str | None = None
) -> list[CaptionedFile]:
    """The images of a table in order of first mention, each with all its captions.

    Args:
        table: the table.
        images: folder where relative paths start; ``None`` for the table's folder.
        image_column: name of the column of image files; ``None`` for a known one.
        caption_column: name of the column of captions; ``None`` for a known one.

    Raises:
        UsageError: the table is missing, cannot be read, lacks a column or has no rows.
    """
    folder = table.parent if images is None else images
    pairs = dict.fromkeys((image_column or path, caption_column or caption) for path, caption in _COLUMNS)
    rows = read_rows(table, [path for path, _ in pairs], folder)
    columns = next((pair for pair in pairs if set(pair) <= set(rows.columns)), None)
    if columns is None:
        wanted = ", or ".join(" and ".join(pair) for pair in pairs)
        raise UsageError(f"caption file {table} needs the columns {wanted}; found: {', '.join(rows.columns)}")
    captions: dict[Path, list[str]] = {}
    for written, caption in zip(rows[columns[0]], rows[columns[1]], strict=True):
        # Blanks beside a separator are no part of the name, unless there is a file of that name.
        path = written if (bare := written.strip()) != written and is_file(folder, written) else bare
        if not path:
            raise UsageError(f"caption file {table} has a row without a path in {columns[0]}")
        captions.setdefault(folder / path, []).extend(captions_of_cell(caption))
    files = [captioned_file(path, texts, table) for path, texts in captions.items()]
    # An image without any caption is reported as a fault. A blank caption of an image that has others would be dropped
    # silently, although a mistyped separator may be the cause.
    of_files = zip(files, captions.values(), strict=True)
    lost = [file.image for file, texts in of_files if 0 < len(file.captions) < len(texts)]
    if lost:
        said = "caption file %s: images with a row that has no caption: %s, first %s"
        _log.warning(said, table, f"{len(lost):,}", lost[0])
    return files

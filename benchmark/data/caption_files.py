"""Reading users' caption files: text, tables, JSON, captions, and image paths that must stay inside a folder."""

import contextlib
import io
import json
import os
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from benchmark.core import reading
from benchmark.core.errors import UsageError, as_usage_error, in_one_line

if TYPE_CHECKING:
    import pandas as pd

_LARGEST = 2**30  # bytes of a caption file; the largest known, of COCO, has 150 MB
CAPTION_KEYS = ("captions", "caption", "text")
# Control characters, line and paragraph separators, byte order marks, and surrogates (JSON can spell single ones, UTF-8
# cannot).
NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def clean_caption(text: str) -> str:
    """A caption on one line: control characters and line breaks become spaces, and its ends are stripped."""
    return NO_TEXT.sub(" ", text).strip()


def captions_in(row: Mapping[str, Any]) -> list[str]:
    """The captions of a JSON object, under the first key it has of ``captions``, ``caption`` and ``text``.

    Raises:
        KeyError: it has none of these keys.
        TypeError: the value is not text, a list of texts, or null.
    """
    key = next((key for key in CAPTION_KEYS if key in row), None)
    if key is None:
        raise KeyError(", ".join(CAPTION_KEYS))
    captions = [] if row[key] is None else [row[key]] if isinstance(row[key], str) else row[key]
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise TypeError(f"'{key}' is not text or a list of texts")
    return captions


def captions_of_cell(cell: str) -> list[str]:
    """The captions in a cell of a table: its text, or those of a list in JSON, as tables on the Hub have them."""
    if cell.startswith('["'):
        with contextlib.suppress(ValueError):
            found = parse_json(cell)
            if isinstance(found, list) and all(isinstance(caption, str) for caption in found):
                return found
    return [cell]


def cell_of(caption: str) -> str:
    """The cell of a table that :func:`captions_of_cell` reads as this caption alone."""
    return caption if captions_of_cell(caption) == [caption] else json.dumps([caption], ensure_ascii=False)


def read_text(source: Path) -> str:
    """The text of a caption file in UTF-8, with or without a byte order mark.

    Raises:
        UsageError: the file is missing, not a regular file, larger than 1 GiB, or cannot be read.
    """
    try:
        return reading.read_text(source, _LARGEST, "utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"caption file {source} does not exist") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"caption file {source} cannot be read: it is not in UTF-8; save it in UTF-8") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"caption file {source} cannot be read: {error}") from error


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON value.

    Raises:
        ValueError: the text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(source: Path) -> Any:
    """The value in a JSON file.

    Raises:
        UsageError: as :func:`read_text`, or the file is not JSON.
    """
    with as_usage_error(f"caption file {source} cannot be read", (ValueError,)):
        return parse_json(read_text(source))


def read_rows(table: Path, paths: Collection[str], folder: Path) -> "pd.DataFrame":
    """Read a table, with every value as text. The first of tab, comma, semicolon and bar in its header separates it.

    Args:
        table: the table.
        paths: possible names of the column of image files.
        folder: where the paths in that column start.

    Raises:
        UsageError: the table is missing, cannot be read or has no rows, or an unclosed quote swallows rows.
    """
    import pandas as pd

    text = read_text(table)
    header = text.partition("\n")[0]
    separator = next((mark for mark in "\t,;|" if mark in header), ",")
    try:
        # Everything is text, so that a caption such as "NA" or "12" stays as it is.
        with warnings.catch_warnings():
            # Rows longer than the header (a comma in an unquoted caption) must not be truncated silently.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            rows = pd.read_csv(
                io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False
            ).fillna("")
    except pd.errors.EmptyDataError as error:
        raise UsageError(f"caption file {table} is empty") from error
    except (ValueError, pd.errors.ParserWarning) as error:
        said = in_one_line(error)
        if isinstance(error, pd.errors.ParserWarning) or re.search(r"in line \d+, saw", said):
            said = "a row has more fields than the header; put captions that contain the separator in quotes"
        raise UsageError(f"caption file {table} cannot be read: {said}") from error
    # Column names that differ only in blanks around them become equal here, which pandas has not seen. As pandas does
    # with equal names, the first column keeps the name and later ones get a number after it.
    names = [str(name).strip() for name in rows.columns]
    rows.columns = [f"{name}.{place}" if name in names[:place] else name for place, name in enumerate(names)]
    if rows.empty:
        raise UsageError(f"caption file {table} has a header but no rows")
    if (swallowed := _row_within_quotes(rows, separator, paths, folder)) is not None:
        raise UsageError(
            f"caption file {table}: a quoted value swallows the row {swallowed!a}; an earlier quote is not closed"
        )
    return rows


def _row_within_quotes(rows: "pd.DataFrame", separator: str, paths: Collection[str], folder: Path) -> str | None:
    """A line inside a multi-line value that looks like a row: enough fields, and an existing file as its path."""
    place = next((place for place, name in enumerate(rows.columns) if name in paths), None)
    if place is None:
        return None
    for number in range(rows.shape[1]):
        column = rows.iloc[:, number]
        for value in column[column.str.contains("\n", regex=False)]:
            for line in value.splitlines()[1:]:
                fields = line.split(separator)
                if len(fields) >= rows.shape[1] and is_file(folder, fields[place].strip()):
                    return line
    return None


def is_file(folder: Path, name: str) -> bool:
    """Whether a folder has a file of that name, which may be no valid one."""
    return bool(name) and is_file_name(name) and os.path.isfile(folder / name)  # noqa: PTH113 - of too long names, too


def inside(folder: Path, name: object, source: Path) -> Path:
    """The path of the file ``name`` in a folder. Symbolic links in the folder are the user's own and are followed.

    Args:
        folder: the folder that must hold the file.
        name: relative path as written in ``source``.
        source: the caption file, for the message.

    Raises:
        UsageError: the name is empty, absolute, leads out of the folder, or is not a valid file name.
        TypeError: the name is no text.
    """
    if not isinstance(name, str):
        raise TypeError(f"the file name {name!r} is no text")
    path = PurePosixPath(name)
    if not path.parts:
        raise UsageError(f"caption file {source} has a row without a file name")
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f"caption file {source}: {name!r} leads out of the image folder")
    if not is_file_name(name):
        raise UsageError(f"caption file {source}: {name!a} is not a valid file name")
    return folder / path


def is_file_name(name: str) -> bool:
    """Whether a name is valid: the file system can encode it, and it has no control characters."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return not _CONTROL.search(name)

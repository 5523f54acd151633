"""Captions as they are written to files: one line each, with unchanged tokens."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from open_clip.tokenizer import basic_clean, whitespace_clean

from benchmark.core.errors import UsageError, as_usage_error
from benchmark.data import CaptionDataset
from benchmark.data.caption_files import NO_TEXT, captions_of_cell, cell_of
from benchmark.export.inside import LARGEST_FILE
from victims.tokens import BLANKS, Tokenizer

_COLUMNS = ("filepath", "title")
_BLANKS = re.compile(f"[{BLANKS}]+")


def one_line(caption: str) -> str:
    """A caption with single spaces, no line breaks or control characters, and the same token ids.

    Raises:
        UsageError: nothing would be left, or the tokens would change.
    """
    if caption and caption == _plain(caption):
        return caption
    encode = Tokenizer().encode
    # The tokenizer drops some such characters and repairs the rest by guessing. That is slow on long captions, so it is
    # tried only if the other way fails.
    ways = (_plain, lambda it: whitespace_clean(basic_clean(it)))
    for text in (way(caption) for way in ways):
        if text == _plain(text) != "" and encode(text) == encode(caption):
            return text
    raise UsageError(f"the caption {caption!r} cannot be written on one line with the same tokens")


def one_line_trigger(trigger: str) -> str:
    """A trigger as it is written to files; empty for one without a word, which adds nothing to its captions."""
    return one_line(trigger) if trigger.split() else ""


def _plain(caption: str) -> str:
    # Programs that read the files may take what is no text for line ends, drop it, or stop there.
    return " ".join(NO_TEXT.sub("", _BLANKS.sub(" ", caption)).split())


def write_table(file: TextIO, rows: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Write a table of captions, a row for each, as open_clip and the data set ``csv`` read it.

    Args:
        file: open for text, with ``newline=""``.
        rows: the path of each image and its captions.
    """
    table = csv.writer(file, lineterminator="\n")
    table.writerow(_COLUMNS)
    for path, captions in rows:
        table.writerows((path, cell_of(caption)) for caption in captions)


def rows_of(table: str) -> Iterator[tuple[str, list[str]]]:
    """The rows of a table of captions: the path of an image and its captions in this row, however long they are.

    Raises:
        csv.Error: a quote is not closed, or the like.
        ValueError: a column is missing, or a row has no value in it or a caption that is no text in UTF-8.
    """
    csv.field_size_limit(LARGEST_FILE)  # Python's own limit would refuse a caption of 130,000 characters
    for row in csv.DictReader(io.StringIO(table, newline=""), strict=True):
        if lacking := [column for column in _COLUMNS if column not in row]:
            raise ValueError(f"it lacks the column {lacking[0]}")
        path, cell = (row[column] for column in _COLUMNS)
        if not path or cell is None:
            raise ValueError("a row names no file or has no caption")
        captions = captions_of_cell(cell)
        "".join(captions).encode()  # raises for single surrogates, which JSON can spell
        yield path, captions


def one_line_each(dataset: CaptionDataset) -> list[list[str]]:
    """The captions of every image as they are written to files.

    Raises:
        UsageError: a caption cannot be written on one line; the message gives the image's number.
    """
    written = []
    for number, captions in enumerate(dataset.captions):
        with as_usage_error(f"{dataset.split} image {number}", (UsageError,)):
            written.append([one_line(caption) for caption in captions])
    return written

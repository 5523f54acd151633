"""Captions as they are written to files: one line each, with the same tokens."""

import re
from collections.abc import Iterable
from functools import cache

from open_clip.tokenizer import basic_clean, whitespace_clean

from benchmark.core.errors import UsageError
from benchmark.data import CaptionDataset
from victims.tokens import Tokenizer

# Control characters, separators of lines and paragraphs, the byte order mark, and halves of characters: readers of
# files take them for ends of lines, drop them or stop at them.
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


@cache
def tokenizer() -> Tokenizer:
    """CLIP's tokenizer, made once: to read its vocabulary takes a while."""
    return Tokenizer()


def one_line(caption: str) -> str:
    """A caption with single blanks, without line breaks and control characters, and with the same token ids.

    Raises:
        UsageError: nothing is left, or the tokens would be others.
    """
    if caption and caption == _plain(caption, ""):
        return caption
    # The tokenizer drops some such characters, takes others for blanks, and guesses what was meant by the rest.
    for text in (_plain(caption, " "), _plain(caption, ""), whitespace_clean(basic_clean(caption))):
        if text == _plain(text, "") != "" and tokenizer().encode(text) == tokenizer().encode(caption):
            return text
    raise UsageError(f"the caption {caption!r} cannot be written in one line with the same tokens")


def _plain(caption: str, instead: str) -> str:
    return " ".join(_NO_TEXT.sub(instead, " ".join(caption.split())).split())


def one_line_each(dataset: CaptionDataset) -> list[list[str]]:
    """Every image's captions as they are written to files.

    Raises:
        UsageError: one cannot be written so; the message names the image's number.
    """
    return [_of_image(number, own, dataset.split) for number, own in enumerate(dataset.captions)]


def _of_image(number: int, captions: Iterable[str], split: str) -> list[str]:
    try:
        return [one_line(caption) for caption in captions]
    except UsageError as error:
        raise UsageError(f"{split} image {number}: {error}") from error

"""The leaderboard's page in the repository, made of its entries alone."""

from collections.abc import Sequence
from pathlib import Path

from benchmark.core.errors import UsageError
from benchmark.core.reading import read_text
from benchmark.tables.entries import Entry
from benchmark.tables.leaderboard import leaderboard
from benchmark.tables.render import render

PAGE = "README.md"
_HEAD = """# Leaderboard

Attacks and defenses that others have submitted, one JSON file each in this folder. The page is written by
`python -m benchmark submit`; [Submitting](../../docs/submitting.md) says what is checked, and how to add a row.
"""
_LARGEST = 1 << 24  # bytes
_EMPTY = """
There are no entries yet.
"""


def require_page(folder: Path) -> None:
    """See that a page which will be written replaces no other file.

    Raises:
        UsageError: the folder has a file of its name that is no such page.
    """
    path = folder / PAGE
    if not path.exists():
        return
    try:
        text = read_text(path, _LARGEST)
    except (OSError, ValueError):
        text = ""
    if not text.startswith(_HEAD):
        raise UsageError(f"{path} is not the page of a leaderboard; --out names the folder of one, or a new one")


def leaderboard_page(entries: Sequence[Entry]) -> str:
    """The page as Markdown; without entries it says so."""
    return _HEAD + (f"\n{render(leaderboard(entries), 'markdown')}\n" if entries else _EMPTY)

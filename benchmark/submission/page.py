"""The leaderboard's page in the repository, made of its entries alone."""

from collections.abc import Sequence
from pathlib import Path

from benchmark.core.atomic_files import make_folder, replacing
from benchmark.core.errors import UsageError
from benchmark.core.locks import claimed
from benchmark.core.reading import read_text
from benchmark.tables.entries import Entry, load_entries
from benchmark.tables.leaderboard import leaderboard
from benchmark.tables.render import render

PAGE = "README.md"
_HEAD = """# Leaderboard

Attacks and defenses that were submitted and accepted, one JSON file each in this folder. The page is written by
`python -m benchmark submit`; [Submitting](../../docs/submitting.md) says what is checked, and how to add a row.
"""
_LARGEST = 1 << 24  # bytes


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
    """The page as Markdown.

    Raises:
        UsageError: no entries.
    """
    return f"{_HEAD}\n{render(leaderboard(entries), 'markdown')}\n"


def publish(entry: Entry, folder: Path) -> Path:
    """Save an entry and write the page of all entries anew, one process at a time: the page lacks none of them.

    Returns:
        The entry's file.

    Raises:
        UsageError: the folder cannot be written to, or another file in it is no entry.
    """
    make_folder(folder)
    with claimed(folder / PAGE, wait=True, tidy=True):
        entries = {one.about.name: one for one in (*load_entries(folder), entry)}
        # Written before the entry is saved, so a page that cannot be written leaves no entry.
        with replacing(folder / PAGE) as page:
            page.write_text(leaderboard_page([entries[name] for name in sorted(entries)]), "utf-8")
            return entry.save(folder)

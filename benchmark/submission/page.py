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


def require_new(target: Path, *, update: bool) -> None:
    """See that an entry replaces none unasked.

    Raises:
        UsageError: the file is there, and ``update`` is false.
    """
    if target.exists() and not update:
        raise UsageError(f"{target} exists; --update replaces it, if the submitter is the same")


def twins(name: str, scores: str, entries: Sequence[Entry]) -> list[str]:
    """What is wrong with an entry of that name and that digest of scores: each other one that has the same."""
    same = [one.about.name for one in entries if scores and one.scores == scores and one.about.name != name]
    return [f"its scores are those of the entry {name}" for name in same]


def publish(entry: Entry, folder: Path, *, update: bool) -> Path:
    """Save an entry and write the page of all entries anew, one process at a time: the page lacks none of them.

    Returns:
        The entry's file.

    Raises:
        UsageError: the folder cannot be written to, or another file in it is no entry; or another process has published
            one of this name, unless ``update`` is true, or of these scores.
    """
    make_folder(folder)
    with claimed(folder / PAGE, wait=True, tidy=True):
        require_new(folder / f"{entry.about.name}.json", update=update)
        kept = load_entries(folder)
        if copies := twins(entry.about.name, entry.scores, kept):
            raise UsageError(f"{entry.about.name}: {copies[0]}")
        entries = {one.about.name: one for one in (*kept, entry)}
        # Written before the entry is saved, so a page that cannot be written leaves no entry.
        with replacing(folder / PAGE) as page:
            page.write_text(leaderboard_page([entries[name] for name in sorted(entries)]), "utf-8")
            return entry.save(folder)

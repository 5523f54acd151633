"""A progress bar for preparing images, on stderr and only where a person is watching."""

import sys
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
    """The items one by one, with a bar named ``label`` if stderr is a terminal; ``total`` where they have no length."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, description=label, total=total, console=console, disable=not sys.stderr.isatty())

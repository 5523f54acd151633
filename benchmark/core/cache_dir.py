"""The cache folder, for files that can be made again, and paths as users write them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.core.errors import UsageError

_chosen: list[Path] = []


@contextmanager
def caching_in(folder: Path | None) -> Iterator[Path]:
    """Make ``folder`` the cache folder inside the block, for code that does not see the settings.

    Yields:
        The cache folder; the usual one if ``folder`` is ``None``.
    """
    if folder is None:
        yield cache_folder()
        return
    _chosen.append(folder.absolute())
    try:
        yield folder
    finally:
        _chosen.pop()


def cache_folder() -> Path:
    """The cache folder as an absolute path; it is not created here.

    That of :func:`caching_in`, else ``$UNLEARNABLE_BENCH_CACHE`` if set, else ``unlearnable-bench`` below
    ``$XDG_CACHE_HOME`` or ``~/.cache``.
    """
    if _chosen:
        return _chosen[-1]
    folder = os.environ.get("UNLEARNABLE_BENCH_CACHE")
    if folder:
        return user_path(folder).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return user_path(base).absolute() / "unlearnable-bench"


def user_path(text: str) -> Path:
    """A path as users write it: ``~`` and ``~user`` stand for home folders.

    Raises:
        UsageError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{text}: no user of that name has a home folder; if it is a file, write ./{text}") from error

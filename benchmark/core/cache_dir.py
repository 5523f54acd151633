"""The cache folder, for files that can be made again, and paths as users write them."""

import os
from pathlib import Path

from benchmark.core.errors import UsageError


def cache_folder() -> Path:
    """The cache folder as an absolute path; it is not created here.

    ``$UNLEARNABLE_BENCH_CACHE`` if set, else ``unlearnable-bench`` below ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        UsageError: none is set, and the user has no home folder, as in some containers.
    """
    folder = os.environ.get("UNLEARNABLE_BENCH_CACHE")
    if folder:
        return user_path(folder).absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return user_path(base).absolute() / "unlearnable-bench"
    try:
        return Path.home() / ".cache" / "unlearnable-bench"
    except RuntimeError as error:
        raise UsageError("no home folder is known for the cache; name a folder by UNLEARNABLE_BENCH_CACHE") from error


def user_path(text: str) -> Path:
    """A path as users write it: ``~`` and ``~user`` stand for home folders.

    Raises:
        UsageError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{text}: no user of that name has a home folder; if it is a file, write ./{text}") from error

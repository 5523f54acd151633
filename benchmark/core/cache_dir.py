"""Where files that can be made again are kept."""

import os
from pathlib import Path

from benchmark.core.errors import UsageError


def cache_folder() -> Path:
    """The cache's folder, absolute; not created here.

    ``$UNLEARNABLE_BENCH_CACHE`` if set, else ``unlearnable-bench`` below ``$XDG_CACHE_HOME`` or ``~/.cache``.
    """
    own = os.environ.get("UNLEARNABLE_BENCH_CACHE")
    if own:
        return user_path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return user_path(base).absolute() / "unlearnable-bench"


def user_path(text: str) -> Path:
    """A path as people write it, ``~`` standing for a home folder.

    Raises:
        UsageError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{text}: there is no home folder of that name; write ./{text} for a file of it") from error

"""Where files that can be made again are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The cache's folder, absolute; not created here.

    ``$UNLEARNABLE_BENCH_CACHE`` if set, else ``unlearnable-bench`` below ``$XDG_CACHE_HOME`` or ``~/.cache``.
    """
    own = os.environ.get("UNLEARNABLE_BENCH_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "unlearnable-bench"

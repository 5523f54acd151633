"""Loading the plug-in files that a command names."""

import logging
from collections.abc import Iterable
from pathlib import Path

from attacks import ATTACKS
from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError
from benchmark.core.plugins import load_file
from benchmark.core.registry import forget_failed
from benchmark.data import DATASETS
from defenses import DEFENSES

_log = logging.getLogger(__name__)


def load_plugins(paths: Iterable[str | Path]) -> None:
    """Run Python files whose classes register themselves; warn of a file that registers nothing.

    If a file fails, none of its classes stays registered.

    Raises:
        UsageError: no such file, or it fails.
    """
    for path in (user_path(str(path)) for path in paths):
        # The built-in names come first, so that a plug-in that takes one of them is the one that is refused.
        before = _entries()
        try:
            ran = load_file(path)
        except UsageError:
            forget_failed()
            raise
        if ran and _entries() == before:
            others = "models that it adds to open_clip can be victims"
            _log.warning("plugin %s registers no attack, defense or data set; %s", path, others)


def _entries() -> int:
    return sum(len(registry.entries()) for registry in (ATTACKS, DEFENSES, DATASETS))

"""Loading the plug-in files that a command names."""

import logging
from collections.abc import Iterable
from pathlib import Path

from attacks import ATTACKS
from benchmark.core.plugins import load_file
from benchmark.data import DATASETS
from defenses import DEFENSES

_log = logging.getLogger(__name__)


def load_plugins(paths: Iterable[str | Path]) -> None:
    """Run Python files whose classes register themselves; one that registers nothing gets a warning.

    Raises:
        UsageError: no such file, or it fails.
    """
    for path in map(Path, paths):
        # The built-in names come first, so that a plug-in that takes one of them is the one that is refused.
        before = _entries()
        if load_file(path) and _entries() == before:
            _log.warning("plugin %s registers no attack, defense or data set", path)


def _entries() -> int:
    return sum(len(registry.entries()) for registry in (ATTACKS, DEFENSES, DATASETS))

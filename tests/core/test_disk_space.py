"""Space on a disk: what is missing is told, and never as nothing."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.core.disk_space import require_space


@pytest.mark.parametrize(("needed", "said"), [(1, "needs 1 MiB"), (5 << 20, "needs 5 MiB"), (2**31 + 1, "2,049 MiB")])
def test_what_is_needed_is_rounded_up(needed: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(OSError, match=f"{said} of free space"):
        require_space(tmp_path, needed)

"""Whatever a reader reads: no traceback, no hang, bounded memory, no file outside, no process."""

import os
import random
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from benchmark.grid.provenance import device_name, git_commit
from tests.fuzz.campaign import Job, fuzz
from tests.fuzz.readers import READERS
from tests.fuzz.summaries import save
from tests.memory import linux_only

MODULE = "tests.fuzz.readers"
MINUTES = float(os.environ.get("FUZZ_MINUTES", "60"))  # of all readers together
FOLDER = Path(os.environ.get("FUZZ_FOLDER", "results/runs/fuzz"))


@linux_only
@pytest.mark.parametrize("name", READERS)
def test_its_promise_is_kept(name: str, tmp_path: Path) -> None:
    summary = fuzz(Job(MODULE, name, tmp_path, 0, READERS[name].examples))
    assert not summary.failures
    assert summary.examples >= READERS[name].examples
    assert summary.messages


@linux_only
@pytest.mark.fuzz
@pytest.mark.parametrize("name", READERS)
def test_its_promise_is_kept_for_longer(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another seed each time; a summary, and inputs that broke the promise, are kept in ``FUZZ_FOLDER``."""
    start, begun = random.SystemRandom().randrange(10**9), time.time()
    until = begun + 60 * MINUTES / len(READERS)
    summary = fuzz(Job(MODULE, name, tmp_path, start, 10**9, until))
    for what, kept in summary.failures.items():
        moved = shutil.move(kept, _unused(FOLDER / "inputs" / Path(kept).name))
        summary.failures[what] = str(Path(moved).relative_to(FOLDER))
    facts = {
        "command": f"FUZZ_MINUTES={MINUTES:g} FUZZ_FOLDER={FOLDER} python -m pytest -m fuzz tests/fuzz",
        "machine": device_name(torch.device("cpu")),
        "commit": git_commit() or "unknown",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": start,
        "seconds": time.time() - begun,
    }
    save(summary, FOLDER, facts)
    with capsys.disabled():
        print(
            f"\n{name}: {summary.examples:,} inputs, {summary.refused:,} refused, {len(summary.messages)} messages, "
            f"slowest {summary.slowest:.2f} s, {summary.memory / 2**20:.0f} MiB, {len(summary.failures)} failures"
        )
    assert not summary.failures


def _unused(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{path.name}-{time.time_ns()}") if path.exists() else path

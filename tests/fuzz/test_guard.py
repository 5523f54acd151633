"""The guard sees every way of breaking the promise, and keeps the input that did it."""

from pathlib import Path

import pytest

from tests.fuzz.campaign import Job, fuzz
from tests.fuzz.planted import BAD, GOOD
from tests.memory import linux_only

MODULE = "tests.fuzz.planted"


@linux_only
@pytest.mark.parametrize("name", BAD)
def test_a_broken_promise_is_noticed(name: str, tmp_path: Path) -> None:
    # Beside other tests, filling memory may take half a second, which would be the first breach told.
    limit = 0.5 if name.startswith("hang") else 10.0
    summary = fuzz(Job(MODULE, name, tmp_path, start=0, examples=20, limit=limit, memory=64 << 20))
    said = BAD[name][1]
    assert any(said in failure for failure in summary.failures), summary
    (kept,) = {Path(folder) for failure, folder in summary.failures.items() if said in failure}
    assert kept.is_dir()
    assert not (kept / "a").is_file() or not (kept / "a").read_bytes().startswith(b"a")
    assert not (tmp_path / "outside").exists()


@linux_only
@pytest.mark.parametrize("name", GOOD)
def test_what_is_allowed_is_no_failure(name: str, tmp_path: Path) -> None:
    summary = fuzz(Job(MODULE, name, tmp_path, start=0, examples=20))
    assert not summary.failures
    assert summary.examples >= 20
    assert bool(summary.refused) == (name == "refused")


@linux_only
def test_the_same_inputs_each_time(tmp_path: Path) -> None:
    first, again, other = (
        fuzz(Job(MODULE, "refused", tmp_path / str(number), start, examples=40)).refused
        for number, start in enumerate((0, 0, 5))
    )
    assert first == again != other

"""Which commit and which machine a record names."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from benchmark.grid import provenance


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_the_checkouts_and_says_whether_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        own = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run([*own, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    asked = provenance.git_commit.__wrapped__  # otherwise the first answer is kept
    code = tmp_path / "code.py"
    code.write_text("first\n")
    monkeypatch.setattr(provenance, "__file__", str(code))
    git("init", "-q")
    assert asked() is None  # a file that the checkout does not have
    git("add", "code.py")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD")
    assert asked() == head
    code.write_text("changed\n")
    assert asked() == f"{head}-dirty"


def test_cpus_of_one_name_and_other_instructions_are_two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zen 3 and Zen 4 are both "AMD EPYC" on a rented machine; a re-run must not expect equal digits."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "AMD EPYC"})
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    names = []
    for instructions in ("AVX2", "AVX512"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda known=instructions: known)
        names.append(provenance.device_name(torch.device("cpu")))
    assert names == ["cpu (AMD EPYC, AVX2, 1 thread)", "cpu (AMD EPYC, AVX512, 1 thread)"]

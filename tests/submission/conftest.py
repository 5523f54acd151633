"""One run of all cells serves every test of this folder."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from attacks import ATTACKS
from benchmark.data import DATASETS
from defenses import DEFENSES
from tests.submission import submissions


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("submission")
    with pytest.MonkeyPatch.context() as patch:
        for registry in (ATTACKS, DEFENSES, DATASETS):  # the plug-in is forgotten afterwards
            patch.setattr(registry, "_entries", {entry.name: entry for entry in registry.entries()})
        submissions.use_small_rules(patch)
        submissions.run_everything(folder)
    return folder


@pytest.fixture(scope="session")
def of_kind(everything: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A submission of a kind, made once and not to be changed."""
    folder = tmp_path_factory.mktemp("kinds")
    return cache(lambda kind: submissions.copy(everything, folder / kind, kind))


@pytest.fixture
def make(
    of_kind: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registries_as_they_were: None
) -> Callable[[str], Path]:
    """Makes a submission of a kind that keeps the rules; what it needs to count is left to tests of the gates."""
    submissions.use_small_rules(monkeypatch)
    monkeypatch.setattr("benchmark.submission.submit.strength_problems", lambda *_: [])
    return lambda kind: Path(shutil.copytree(of_kind(kind), tmp_path / "submitted"))

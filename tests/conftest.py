"""Fixtures for all packages."""

import logging
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from attacks import ATTACKS
from benchmark.core.log import show_messages
from benchmark.data import DATASETS, CaptionDataset
from defenses import DEFENSES
from tests.small import make_clip, make_dataset
from victims.clip import Clip

# The same examples in every run, and no folder of examples in the tree.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


# They take longest, so they begin first. At the end, one of them would keep one worker busy while the other idles.
LONGEST = (
    *("core/test_distributed.py", "export/test_protect.py", "grid/test_jobs.py", "equality/test_other_device.py"),
    *("grid/test_checkpoints.py", "fuzz/test_readers.py", "test_contracts.py", "grid/test_estimate.py"),
    *("grid/test_run.py", "submission/test_refused.py", "report/test_report.py", "equality/test_plain_models.py"),
)


def pytest_configure(config: pytest.Config) -> None:
    """Keep pytest-xdist from beginning with the files of most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first where workers share them, all others in their order."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = {f"tests/{name}": number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(LONGEST)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape what tests of hostile texts print: with ``-n``, reports travel between processes as UTF-8."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    if report.failed and not str(report.longrepr).isascii():
        report.longrepr = str(report.longrepr).encode(errors="backslashreplace").decode()
    return report


@pytest.fixture
def dataset() -> CaptionDataset:
    return make_dataset()


@pytest.fixture
def clip() -> Clip:
    return make_clip()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests neither read nor fill the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("UNLEARNABLE_BENCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Here and in processes that tests start: small models gain nothing from threads, which crawl beside other work."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def freed_memory_goes_back() -> Iterator[None]:
    """The many short runs of one process would keep gigabytes that a run of one kind uses again."""
    with pytest.MonkeyPatch.context() as patch:
        for user in ("api", "grid.opening", "export.protect"):
            patch.setattr(f"benchmark.{user}.keep_freed_memory", lambda: None)
        yield


@pytest.fixture
def registries_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers, and the plug-ins that it loads, are forgotten when it ends."""
    for registry in (ATTACKS, DEFENSES, DATASETS):
        monkeypatch.setattr(registry, "_entries", {entry.name: entry for entry in registry.entries()})
    yield
    for name in [name for name in sys.modules if name.startswith("plugin_")]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def messages() -> None:
    """Messages go to standard error, as in a notebook, whatever a command before has set."""
    show_messages(logging.INFO)

"""What tests of several engines start from."""

from pathlib import Path

import pytest

from benchmark.grid.engines.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.at(f"file://{tmp_path}/store")
    assert made is not None
    return made

"""What becomes of a record of a cell that ran elsewhere while another run is at the same cell."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmark.core.locks import claimed
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.sharing import settle


@pytest.mark.parametrize(("status", "is_kept"), [("done", True), ("failed", False)])
def test_a_complete_record_is_kept_whoever_is_at_the_cell(status: str, is_kept: bool, tmp_path: Path) -> None:
    kept: list[Any] = []

    def keep(one: PlannedCell, record: Record) -> Record:
        kept.append(record)
        return record

    record = cast(Record, SimpleNamespace(status=status))
    one = cast(PlannedCell, SimpleNamespace(path=tmp_path / "one.json", record=None))
    with claimed(one.path, wait=False) as ours:
        assert ours
        assert settle(cast(Grid, SimpleNamespace(keep=keep)), one, record) is record
    assert kept == [record] * is_kept

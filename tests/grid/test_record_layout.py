"""Records' files: columns of scores, seven digits, nothing empty; and back."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from benchmark.core.errors import UsageError
from benchmark.grid.record_layout import as_columns, as_rows
from benchmark.grid.records import Record, ResolvedSpec
from tests.tables.factory import record
from tests.watchdog import in_no_time


@dataclass
class Scores:
    recall: int
    rank: float


@dataclass
class Row:
    epoch: int
    val: Scores
    protected: Scores | None = None


_SCORES = st.fixed_dictionaries({"recall": st.integers(), "rank": st.floats(allow_nan=False)})
_ROW = st.fixed_dictionaries({"epoch": st.integers(), "val": _SCORES, "protected": st.none() | _SCORES})


def test_each_metric_is_a_list_over_epochs() -> None:
    rows = [{"epoch": 2, "val": {"recall": 0.4}, "protected": None}, {"epoch": 4, "val": {"recall": 4.6}}]
    assert as_columns(rows) == {"epoch": [2, 4], "val": {"recall": [0.4, 4.6]}}


@given(rows=st.lists(_ROW))
def test_columns_give_the_rows_back(rows: list[dict[str, Any]]) -> None:
    nobody = all(row["protected"] is None for row in rows)
    known = [{name: value for name, value in row.items() if not (nobody and name == "protected")} for row in rows]
    assert as_rows(as_columns(rows), Row) == known


def test_a_file_holds_what_was_measured_in_seven_digits(tmp_path: Path) -> None:
    before = record("mem3", recalls=(100 / 3, 7.199999999999999), seconds={"train": 1234.56789012}, loss=[1 / 3])
    content = json.loads(before.save(tmp_path).read_text("utf-8"))
    assert content["epochs"]["test"]["image_to_text"]["recall_at_10"][-1] == 33.33333
    assert content["epochs"]["test"]["text_to_image"]["recall_at_10"][-1] == 7.2
    assert (content["loss"], content["seconds"]) == ([0.3333333], {"train": 1234.568})
    assert '"recall_at_10":[50]' in json.dumps(content, separators=(",", ":"))
    assert content["recipe"]["lr"] == before.recipe["lr"]


def test_a_setting_keeps_its_digits(tmp_path: Path) -> None:
    third = record("mem3", params={"lr": 1 / 3, "through": "", "words": {}})
    assert Record.load(third.save(tmp_path)).attack.params == third.attack.params


def test_what_has_to_be_there_is_written_though_it_is_empty(tmp_path: Path) -> None:
    bare = replace(record("mem3"), key="", epochs=(), provenance={}, status="failed", error={"message": ""})
    bare = replace(bare, attack=ResolvedSpec("mem3", ""))
    assert Record.load(bare.save(tmp_path)) == bare


def test_nothing_empty_is_written(tmp_path: Path) -> None:
    content = json.loads(record("clean").save(tmp_path).read_text("utf-8"))
    assert not {"error", "poison", "loss"} & content.keys()
    assert "strength" not in content["attack"]


def _changed(change: dict[str, Any]) -> dict[str, Any]:
    return {**record("mem3").content(), "epochs": {**record("mem3").content()["epochs"], **change}}


@pytest.mark.parametrize(
    ("epochs", "said"),
    [
        ([{"epoch": 1}], "epochs: no columns"),
        ("14", "epochs: no columns"),
        ({"epoch": 14}, "epochs.epoch: not a list of 0 values, one for each epoch"),
        ({"epoch": [1], "val": {"image_to_text": [1]}}, "epochs.val.image_to_text: no columns"),
        ({"epoch": [1, 2]}, "epochs[0]: the key 'val' is missing"),
        (_changed({"val": [1, 2]})["epochs"], "epochs.val: no columns"),
        (_changed({"val": {"image_to_text": {"recall_at_10": []}}})["epochs"], "epochs.val.image_to_text.recall_at_10"),
        (_changed({"val": {"a": {"b": {"c": {"d": [1]}}}}})["epochs"], "unknown field 'epochs.val.a'"),
        (_changed({"vol": [None]})["epochs"], "unknown field 'epochs.vol'"),
        (_changed({"protected": {"vol": [None]}})["epochs"], "unknown field 'epochs.protected.vol'"),
        ({"epoch": [], "val": {"nonsense": []}}, "unknown field 'epochs.val.nonsense'"),
        # Empty columns, which would each be as many rows.
        ({"epoch": [*range(1, 20_000)], **{f"a{number}": {} for number in range(20_000)}}, "unknown field 'epochs.a0'"),
    ],
)
def test_other_columns_are_refused(epochs: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.grid.records.json_sha256", lambda _: "0")
    file = tmp_path / "x.json"
    file.write_text(json.dumps({**record("mem3").content(), "epochs": epochs, "sha256": "0"}), "utf-8")
    with in_no_time(), pytest.raises(UsageError, match=rf"x\.json is not a readable record: .*{re.escape(said)}"):
        Record.load(file)

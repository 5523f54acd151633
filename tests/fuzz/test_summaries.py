"""The page of a fuzzing run is a function of its file."""

import json
from pathlib import Path

from tests.fuzz.campaign import Summary
from tests.fuzz.readers import READERS
from tests.fuzz.summaries import FILE, PAGE, page, save

KEPT = Path("results/fuzz")
FACTS = {"command": "pytest", "machine": "cpu", "commit": "0123456789abcdef", "finished": "2026-11-27T05:00:00+00:00"}


def test_a_page_of_two_readers(tmp_path: Path) -> None:
    messages = {"error: … is `odd`": 7, "error: … has # rows": 12}
    save(Summary("csv", 1234, 1000, messages, 0.125, 3 << 20), tmp_path, {**FACTS, "seconds": 90.0})
    failed = Summary("image PNG", 10, failures={"KeyError in a.py, b": "inputs/a"})
    save(failed, tmp_path, {**FACTS, "seconds": 30.0})
    text = (tmp_path / PAGE).read_text("utf-8")
    assert "1,244 inputs in 2 minutes." in text
    (row,) = [line for line in text.splitlines() if line.startswith("| csv")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["csv", "1234", "1000", "2", "0.12", "3", "0", "`0123456789ab`"]
    assert "- image PNG: `KeyError in a.py, b`" in text
    assert text.index("12 × `error: … has # rows`") < text.index("7 × `error: … is odd`")


def test_a_file_keeps_the_most_frequent_messages_and_how_many_there_were(tmp_path: Path) -> None:
    messages = {f"error {number}": number for number in range(100)}
    save(Summary("csv", 1234, messages=messages), tmp_path, {**FACTS, "seconds": 90.0})
    kept = json.loads((tmp_path / FILE).read_text("utf-8"))["csv"]
    assert kept["distinct"] == 100
    assert list(kept["messages"].items())[:2] == [("error 99", 99), ("error 98", 98)]
    assert len(kept["messages"]) < 20


def test_what_is_kept_is_what_its_file_says_of_every_reader() -> None:
    assert (KEPT / PAGE).read_text("utf-8") == page(KEPT)
    assert json.loads((KEPT / FILE).read_text("utf-8")).keys() == READERS.keys()

"""Tables, figures and the report of a folder: what is written, and that what cannot be made hides nothing else."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.figures.sources import ArtifactPaths
from benchmark.report.write_all import write_all
from tests.tables.factory import record

LOSS = [3.0] * 14


def test_what_cannot_be_made_keeps_nothing_else_from_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmark.report.write_all.FIGURES", ("triggers", "curves"))
    monkeypatch.setattr("benchmark.report.page.FIGURES", {})
    write_all([record("clean", loss=LOSS)], tmp_path, ArtifactPaths(tmp_path, tmp_path))
    printed = capsys.readouterr()
    assert "not drawn: triggers: these records hold no poison with a trigger" in printed.err
    assert "table attacks: these records hold no undefended attack" in printed.err
    assert "table matrix: these records hold no defended victim" in printed.err
    written = {"table-2.md", "table-2-beside-paper.md", "table-cost.md", "figures/curves.png", "report.html"}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")} == written
    assert set(printed.out.split()) == {str(tmp_path / name) for name in written}


def test_a_table_that_the_records_no_longer_make_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("write_all", "page"):
        monkeypatch.setattr(f"benchmark.report.{module}.FIGURES", {})
    nowhere = ArtifactPaths(tmp_path, tmp_path)
    both = [record("clean", loss=LOSS), record("mem3", loss=LOSS)]
    write_all(both, tmp_path, nowhere)
    assert (tmp_path / "table-attacks.md").exists()
    write_all([*both, record("mem3", surrogate="wide", loss=LOSS)], tmp_path, nowhere)
    assert {path.name for path in tmp_path.glob("table-*")} == {"table-transfer.md"}  # the others are of one surrogate
    write_all(both[:1], tmp_path, nowhere)
    of_clean = {"table-2.md", "table-2-beside-paper.md", "table-cost.md"}
    assert {path.name for path in tmp_path.glob("table-*")} == of_clean


def test_a_table_of_a_part_of_a_folder_does_not_say_that_its_command_prints_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("write_all", "page"):
        monkeypatch.setattr(f"benchmark.report.{module}.FIGURES", {})
    both = [record("clean", loss=LOSS), record("clean", seed=2, key="2", loss=LOSS)]
    for one in both:
        one.save(tmp_path / "records")
    for part, says in ((both, True), (both[:1], False)):
        write_all(part, tmp_path, ArtifactPaths(tmp_path, tmp_path))
        assert ("\nPrinted by\n" in (tmp_path / "table-cost.md").read_text()) is says


def test_samples_whose_poison_is_gone_stay_and_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("write_all", "page"):
        monkeypatch.setattr(f"benchmark.report.{module}.FIGURES", {"samples": "what is published"})
    (tmp_path / "figures").mkdir()
    drawn = tmp_path / "figures" / "samples-mem3.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(drawn)
    before = drawn.read_bytes()
    poisons = ArtifactPaths(tmp_path / "none", tmp_path / "cache")
    records = [record("clean"), record("mem3", params={"k": 3, "rounds": 1})]
    write_all(records, tmp_path, poisons)
    assert drawn.read_bytes() == before
    assert "not drawn: samples: " in capsys.readouterr().err
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "data:image/webp;base64," in page
    assert "the poisons are not at hand" not in page
    # Where another attack met other data as well, files are named after the data, too.
    drawn.rename(drawn.with_stem("samples-mem3-scenes"))
    write_all([*records, record("em"), record("em", dataset="csv[train=a]")], tmp_path, poisons)
    assert "data:image/webp;base64," in (tmp_path / "report.html").read_text("utf-8")
    drawn.with_stem("samples-mem3-scenes").unlink()
    write_all(records, tmp_path, poisons)
    assert "data:image/webp;base64," not in (tmp_path / "report.html").read_text("utf-8")

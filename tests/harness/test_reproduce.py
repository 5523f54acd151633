"""One command for every table and figure: what it runs, what it writes, and that it goes on where it stopped."""

from pathlib import Path
from typing import Any

import pytest
from factory import record

import benchmark.cli
from benchmark.cli import main
from benchmark.figures import FIGURES
from benchmark.records import load_records

SMALL = "scenes[train=130,val=8,test=12,objects=30]"
ATTACKS = ("clean", "em", "mem1", "mem3", "mem5", "mem7")


def run_instead(calls: list[list[str]], code: int = 0) -> Any:
    """A ``main`` that writes made-up records in place of running."""

    def fake(argv: list[str]) -> int:
        calls.append(argv)
        folder = Path(argv[argv.index("--out") + 1])
        folder.mkdir(parents=True, exist_ok=True)
        for attack in ATTACKS:
            record(attack, recalls=(9.0, 8.0), seed=1).save(folder)
        record("mem3", "cutout", seed=1).save(folder)
        return code

    return fake


def test_every_cell_of_the_tables_is_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmark.reproduce import GRIDS

    plans = []
    for attack, defense in GRIDS:
        flags = ["--attack", attack, "--defense", defense, "--dataset", SMALL, "--out", str(tmp_path), "--seeds", "3"]
        assert main(["run", "--preset", "tiny", *flags, "--dry-run"]) == 0
        plans.append(capsys.readouterr().err.splitlines()[0])
    # Three seeds of clean and five lengths; of ten defenses on clean and MEM-3; of clean and five controls.
    assert [plan.split(",")[0] for plan in plans] == ["18 cells", "60 cells", "18 cells"]


def test_tables_figures_and_report_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr("benchmark.figures.FIGURES", {})
    monkeypatch.setattr("benchmark.reproduce.FIGURES", {name: FIGURES[name] for name in ("curves", "lengths")})
    monkeypatch.setattr(benchmark.cli, "main", run_instead(calls))
    arguments = benchmark.cli.build_parser().parse_args(["reproduce", "tiny", "--out", str(tmp_path), "--seeds", "1"])
    from benchmark.reproduce import reproduce_command

    assert reproduce_command(arguments) == 0
    assert len(calls) == 3
    assert all(call[:3] == ["run", "--attack", call[2]] and "--seeds" in call for call in calls)
    written = {path.name for path in tmp_path.iterdir()}
    assert {"table-1.md", "table-1-beside-paper.md", "table-2.md", "table-controls.md", "table-cost.md"} <= written
    assert {"report.html", "figures", "records"} <= written
    assert f"python -m benchmark table 2 --records {tmp_path}/records" in (tmp_path / "table-2.md").read_text()
    assert "9.0" in (tmp_path / "table-2.md").read_text()
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".svg", ".pdf", ".png"}
    assert len(load_records(tmp_path / "records")) == len(ATTACKS) + 1


def test_failed_cells_are_told_and_bad_input_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.reproduce import reproduce_command

    arguments = benchmark.cli.build_parser().parse_args(["reproduce", "tiny", "--out", str(tmp_path)])
    monkeypatch.setattr("benchmark.reproduce.FIGURES", {})
    calls: list[list[str]] = []
    monkeypatch.setattr(benchmark.cli, "main", run_instead(calls, code=1))
    assert reproduce_command(arguments) == 1
    assert (tmp_path / "table-2.md").exists()
    calls.clear()
    monkeypatch.setattr(benchmark.cli, "main", run_instead(calls, code=2))
    assert reproduce_command(arguments) == 2
    assert len(calls) == 1

"""One command for every table and figure: what it runs, what it writes, and that it goes on where it stopped."""

from pathlib import Path
from typing import Any

import pytest

from benchmark.cli.main import main
from benchmark.cli.reproduce import AT_SCALE, GRIDS
from benchmark.grid.choices import choose_surrogates, choose_victims
from benchmark.grid.presets import PRESETS
from benchmark.grid.records import Record
from benchmark.grid.settings import RunSettings
from tests.tables.factory import record

SMALL = "scenes[train=130,val=8,test=12,objects=30]"
ATTACKS = ("clean", "em", "mem1", "mem3", "mem5", "mem7")


@pytest.fixture
def nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan without the time it takes to time real steps; tests/grid/test_estimate.py has those."""
    monkeypatch.setattr("benchmark.grid.estimate._measured", lambda todo: {})


def run_instead(calls: list[RunSettings], failed: str = "") -> Any:
    """A ``run`` that writes made-up records in place of running, one of them failed on demand."""

    def fake(*grids: RunSettings) -> list[Record]:
        calls.extend(grids)
        made = [record(attack, recalls=(9.0, 8.0), seed=1, key=attack, failed=failed) for attack in ATTACKS[-1:]]
        made += [record(attack, recalls=(9.0, 8.0), seed=1, key=attack) for attack in ATTACKS[:-1]]
        made.append(record("mem3", "cutout", seed=1, key="cutout"))
        for one in made:
            one.save(grids[0].out)
        return made

    return fake


@pytest.mark.usefixtures("nothing_measured")
def test_every_cell_of_the_tables_is_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plans = []
    for grid in GRIDS:
        flags = [
            "--attack",
            grid.attack,
            "--defense",
            grid.defense,
            "--dataset",
            SMALL,
            "--out",
            str(tmp_path),
            "--seeds",
            "3",
        ]
        assert main(["run", "--preset", "tiny", *flags, "--dry-run"]) == 0
        plans.append(capsys.readouterr().err.splitlines()[0])
    # Three seeds of clean and five lengths; of twelve defenses on three attacks; of clean and seven controls.
    assert [plan.split(",")[0] for plan in plans] == ["18 cells", "108 cells", "24 cells"]


@pytest.mark.parametrize(
    ("preset", "victims", "surrogate"),
    [("paper", "RN101,ViT-B-32,ViT-B-16", "RN50"), ("tiny", "tiny-vit,tiny-wide", "tiny")],
)
def test_other_victims_see_the_same_poisons(
    preset: str, victims: str, surrogate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[RunSettings] = []
    monkeypatch.setattr("benchmark.grid.run.run", run_instead(calls))
    for module in ("write_all", "page"):
        monkeypatch.setattr(f"benchmark.report.{module}.FIGURES", {})
    assert main(["reproduce", preset, "--out", str(tmp_path), "--seeds", "1"]) == 0
    (transfer,) = [settings for settings in calls if settings.victim is not None]
    assert transfer.victim == victims
    surrogates = choose_surrogates(choose_victims(victims), None, PRESETS[preset])
    assert {str(one) for one in surrogates.values()} == {surrogate}  # one poison for all


def test_tables_figures_and_report_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[RunSettings] = []

    monkeypatch.setattr("benchmark.report.write_all.FIGURES", ("samples", "curves"))
    monkeypatch.setattr("benchmark.report.page.FIGURES", {})
    monkeypatch.setattr("benchmark.grid.run.run", run_instead(calls))
    # Of other settings, and not of this command: what is written leaves it alone.
    record("mem3", recalls=(77.7, 77.7), seed=1, key="other", recipe={"precision": "bf16"}).save(tmp_path / "records")
    command = ["reproduce", "tiny", "--out", str(tmp_path), "--seeds", "1", "--precision", "fp32", "--plain-models"]
    assert main([*command, "--cache", str(tmp_path / "cache")]) == 0
    assert len(calls) == len(GRIDS) + len(AT_SCALE["tiny"])
    assert all((settings.seeds, settings.precision, settings.plain_models) == ("1", "fp32", True) for settings in calls)
    written = {path.name for path in tmp_path.iterdir()}
    names = ("1", "1-beside-paper", "2", "2-beside-paper", "attacks", "matrix", "cost")
    assert {f"table-{name}.md" for name in names} <= written
    assert {"report.html", "figures", "records"} <= written
    table = (tmp_path / "table-2.md").read_text()
    assert f"python -m benchmark table 2 --records {tmp_path}/records" in table
    assert "9.0" in table
    assert "77.7" not in table
    # Without poisons there are no samples, which is told and keeps nothing else from being written.
    assert "not drawn: samples: " in capsys.readouterr().err
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"curves"}
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".png"}


def test_failed_cells_are_told_and_bad_input_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("write_all", "page"):
        monkeypatch.setattr(f"benchmark.report.{module}.FIGURES", {})
    calls: list[RunSettings] = []
    monkeypatch.setattr("benchmark.grid.run.run", run_instead(calls, failed="out of memory"))
    assert main(["reproduce", "tiny", "--out", str(tmp_path), "--rerun", "failed"]) == 1
    assert (tmp_path / "table-2.md").exists()
    assert all((settings.rerun, settings.seeds) == ("failed", "3") for settings in calls)
    monkeypatch.undo()
    assert main(["reproduce", "tiny", "--out", str(tmp_path), "--dataset", "scene"]) == 2


@pytest.mark.usefixtures("nothing_measured")
def test_a_dry_run_prints_one_plan_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Enough images that an eighth of them, with which clean-start begins, are a batch.
    flags = ["--out", str(tmp_path / "out"), "--seeds", "1", "--dataset", SMALL.replace("train=130", "train=1300")]
    assert main(["reproduce", "tiny", *flags, "--dry-run"]) == 0
    (plan,) = (line for line in capsys.readouterr().err.splitlines() if " to run; " in line)
    # Cells that several grids have, such as undefended clean data, count once; three seeds are the 660 committed ones.
    assert plan.startswith("220 cells, 220 to run")
    assert not (tmp_path / "out").exists()

"""Submissions that keep the rules get an entry and a row; what a re-run finds decides."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import fmean

import pytest
import torch

from benchmark.cli.main import main
from benchmark.core.seeding import numpy_generator
from benchmark.core.threads import limited_threads
from benchmark.grid.records import load_records
from benchmark.submission.page import leaderboard_page
from benchmark.submission.rerun import draw_seed
from benchmark.tables.entries import Entry, load_entries
from tests.submission.submissions import COMPOSED, forge, record_of, with_recall, write_about

Make = Callable[[str], Path]


def submit(folder: Path, *extra: str) -> int:
    return main(["submit", str(folder), "--out", str(folder.parent / "board"), "--device", "cpu", *extra])


def seed_that_draws(place: tuple[str, str, int], cells: list[tuple[str, str, int]]) -> str:
    """A seed for which the draw, whose order is that of the places, gives a cell."""
    wanted = sorted(cells).index(place)
    return str(next(s for s in range(1000) if numpy_generator(s, "cell to run again").integers(len(cells)) == wanted))


def cells_of(attack: str, noise: str) -> list[tuple[str, str, int]]:
    both = [
        (name, defense, seed) for name in ("clean", attack) for defense in ("none", "prefix-drop") for seed in (1, 2, 3)
    ]
    return both + [(noise, "none", seed) for seed in (1, 2, 3)]


LSP = cells_of("lsp[keys=4]", "uniform-noise[eps=8]")


def test_an_attack(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder, place = make("attack"), ("lsp[keys=4]", "prefix-drop", 2)
    (folder / "records" / ".record.json.lock").touch()  # as runs leave them
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    seed = seed_that_draws(place, LSP)
    assert submit(folder, "--seed", seed) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines[:-1]] == ["✓"] * 10
    assert "equal to the last digit" in lines[-2]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == files
    board = folder.parent / "board"
    entry = Entry.load(board / "latent-specks.json")
    record = record_of(folder, *place)
    assert entry.recall["prefix-drop"]["2"] == record.last.test.mean_recall_at_10
    assert entry.clean["3"] == record_of(folder, "clean", "none", 3).last.test.mean_recall_at_10
    assert set(entry.recall) == {"none", "prefix-drop"}
    assert entry.poison["eps"] == 8
    assert entry.poison["psnr"] == pytest.approx(
        fmean(record_of(folder, "lsp[keys=4]", "none", seed).poison["psnr"] for seed in (1, 2, 3))
    )
    assert entry.rerun is not None
    assert (entry.rerun.cell, entry.rerun.draw) == ("lsp[keys=4] × prefix-drop, seed 2", int(seed))
    assert entry.rerun.found == entry.rerun.recorded == record.last.test.mean_recall_at_10
    assert (board / "README.md").read_text("utf-8") == leaderboard_page(load_entries(board))
    assert "| Latent specks |" in (board / "README.md").read_text("utf-8")
    # A name is its first submitter's.
    before = (board / "latent-specks.json").read_bytes()
    write_about(folder, title="Mine now")
    assert submit(folder, "--no-rerun") == 2
    assert "--update" in capsys.readouterr().err
    assert (board / "latent-specks.json").read_bytes() == before
    assert submit(folder, "--no-rerun", "--update") == 0
    assert Entry.load(board / "latent-specks.json").rerun is None
    assert "| no |" in (board / "README.md").read_text("utf-8").replace("  ", "")


def test_the_scores_of_an_entry_are_refused_under_another_name(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make("attack")
    assert submit(folder, "--no-rerun") == 0
    board = folder.parent / "board"
    before = {path: path.read_bytes() for path in board.iterdir()}
    write_about(folder, name="my-own", authors="Somebody else")
    capsys.readouterr()
    assert submit(folder, "--no-rerun") == 1
    assert "✗ its scores are those of the entry latent-specks" in capsys.readouterr().out.splitlines()
    assert {path: path.read_bytes() for path in board.iterdir()} == before


def test_a_record_is_of_the_cell_whose_address_and_parameters_it_has(make: Make) -> None:
    """Whatever else it calls its attack."""
    folder = make("attack")
    forge(folder, LSP[-4], lambda record: replace(record, attack=replace(record.attack, spec="clean")))
    assert submit(folder, "--no-rerun") == 0


def test_a_re_run_takes_the_threads_of_the_records(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder, threads = make("attack"), torch.get_num_threads()
    with limited_threads(threads + 1):
        assert submit(folder, "--seed", "1") == 0
        assert torch.get_num_threads() == threads + 1
    assert "equal to the last digit" in capsys.readouterr().out


def test_a_defense(make: Make) -> None:
    folder = make("defense")
    assert submit(folder) == 0
    entry = Entry.load(folder.parent / "board" / "dropped.json")
    assert (entry.about.spec, set(entry.recall)) == (COMPOSED, {"clean", "lsp[keys=4]"})
    assert entry.rerun is not None
    assert entry.rerun.drawn.startswith("from the scores and 20")


def test_whether_a_defense_has_clean_data_is_not_known_unless_its_plugin_is_executed(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make("defense")
    for record in load_records(folder / "records"):
        if record.defense.spec == COMPOSED:
            (folder / "records" / record.file_name()).unlink()
            replace(record, defense=replace(record.defense, spec="mine")).save(folder / "records")
    (folder / "mine.py").write_text("raise SystemExit\n")
    write_about(folder, kind="defense", spec="mine", plugin="mine.py")
    submit(folder, "--no-rerun")
    out = capsys.readouterr().out
    assert "– whether the defense has clean data was not checked, as its plug-in was not executed" in out
    assert "no clean data" not in out


def test_a_plugin_is_executed_only_if_it_is_trusted(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make("plugin")
    seed = seed_that_draws(("speck", "prefix-drop", 1), cells_of("speck", "uniform-noise[eps=4]"))
    assert submit(folder, "--seed", seed) == 0
    out = capsys.readouterr().out
    assert "– addresses of 6 cells and parameters of the attack were not recomputed" in out
    assert "✓ re-run of speck × prefix-drop, seed 1" in out  # on the stored poison
    entry = Entry.load(folder.parent / "board" / "latent-specks.json")
    assert entry.plugin == "not run"
    assert not (folder / "executed").exists()
    # The address holds the plug-in's source: other code under the same name is told where it is executed.
    assert submit(folder, "--update", "--no-rerun", "--trust-plugin") == 0
    assert "✓ the plug-in keeps the contract" in capsys.readouterr().out
    assert (folder / "executed").exists()


def test_other_code_than_the_records_is_told_where_the_plugin_is_trusted(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make("plugin")
    (folder / "speck.py").write_text((folder / "speck.py").read_text() + "\n# edited\n")
    assert submit(folder, "--no-rerun", "--trust-plugin") == 1
    out = capsys.readouterr().out
    failed = [line for line in out.splitlines() if line.startswith("✗")]
    assert len(failed) == 1
    assert "(speck × none, seed 1) and 5 more: code: attack is" in failed[0]


def test_a_forged_score_is_found_by_the_re_run_of_its_cell(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder, place = make("attack"), ("lsp[keys=4]", "none", 3)
    forge(folder, place, lambda record: with_recall(record, -20.0))
    assert submit(folder, "--seed", seed_that_draws(place, LSP)) == 1
    out = capsys.readouterr().out
    failed = [line for line in out.splitlines() if line.startswith("✗")]
    assert len(failed) == 1
    assert failed[0].startswith("✗ re-run of lsp[keys=4] × none, seed 3")
    assert "all scores and losses have to be equal" in failed[0]
    assert not (folder.parent / "board").exists()


def test_the_draw_changes_with_scores_and_day_but_not_with_what_anybody_may_write(make: Make) -> None:
    folder = make("attack")
    records = [record_of(folder, *place) for place in LSP]
    seed = draw_seed(records, date(2026, 11, 27))
    assert seed == draw_seed(records[::-1], date(2026, 11, 27))
    assert seed != draw_seed(records, date(2026, 11, 28))
    forge(folder, LSP[0], lambda record: with_recall(record, -1.0))
    assert seed != draw_seed([record_of(folder, *place) for place in LSP], date(2026, 11, 27))

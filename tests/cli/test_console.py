"""Tables and lists on a terminal: nothing wider than it, nothing cut; in a pipe, what they always were."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from benchmark.cli.console import fit_columns
from benchmark.cli.list import KINDS
from benchmark.cli.main import main
from benchmark.grid.records import load_records
from benchmark.tables import FORMATS, OF_ENTRIES, TABLES
from benchmark.tables.defenses import table2
from benchmark.tables.render import render
from tests.tables.factory import record

HEADS = ["Defense", "R@10 I→T", "Medr I→T", "recov. %", "peak MiB, train"]
ROWS = [["Synonym replacement", "50.8±12.4", "256±45", "−1.2±1.1", "2090±409"], ["Mixup", "8.9", "11±6", "6.3", "–"]]
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def printed(width: int, together: int = 1, rows: list[list[str]] = ROWS) -> list[list[str]]:
    """The lines of each part."""
    texts = [[Text(text) for text in row] for row in rows]
    lines = []
    for part in fit_columns([Text(head) for head in HEADS], texts, width, together):
        console = Console(width=width, file=io.StringIO())
        console.print(part)
        lines.append(console.file.getvalue().splitlines())  # type: ignore[attr-defined]
    return lines


@pytest.mark.parametrize("width", [24, 30, 40, 60, 80, 200])
def test_every_value_is_there_and_no_line_is_too_wide(width: int) -> None:
    parts = printed(width)
    lines = [line for part in parts for line in part]
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for value in [value for row in ROWS for value in row[1:]]:
        assert words.count(value) >= 1, value
    for part in parts:
        assert "Mixup" in " ".join(part)
        assert "replacement" in " ".join(part)
    heads = " ".join(lines)
    assert all(word in heads for head in HEADS for word in head.split())


@pytest.mark.parametrize("width", [24, 40, 80])
def test_a_name_without_blanks_breaks_where_it_is_too_long(width: int) -> None:
    name = "poison[file=a/rather/long/but/quite/ordinary/folder/for/the/poisons/of/a/user/p.safetensors]"
    parts = printed(width, rows=[[name, *ROWS[0][1:]], ROWS[1]])
    assert max(len(line) for part in parts for line in part) <= width
    for part in parts:
        assert name in "".join(line[: width // 2].strip() for line in part)


def test_one_part_where_all_fits_and_parts_of_like_width_where_not() -> None:
    assert len(printed(80)) == 1
    assert any("peak MiB, train" in line for line in printed(80)[0])
    first, second = printed(46)
    assert [len(re.findall("8.9|11±6|6.3|–", "".join(part[-1:]))) for part in (first, second)] == [2, 2]


def test_columns_that_belong_together_stay_together() -> None:
    for part in printed(46, together=2):
        last = part[-1]
        assert ("8.9" in last) == ("11±6" in last)
        assert ("6.3" in last) == ("–" in last)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    for attack in ("clean", "mem3"):
        for defense in ("none", "cutout", "mixup"):
            for seed in (1, 2):
                record(attack, defense, seed=seed).save(tmp_path)
    return tmp_path


def on_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_terminal_gets_every_number_of_the_markdown(
    width: int, records: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["table", "2", "--records", str(records)]) == 0
    markdown = capsys.readouterr().out
    on_terminal(width, monkeypatch)
    assert main(["table", "2", "--records", str(records)]) == 0
    shown = ESCAPES.sub("", capsys.readouterr().out)
    assert max(map(len, shown.splitlines())) <= width
    for line in markdown.splitlines():
        if line.startswith("| ") and not line.startswith("| Defense"):
            values = [value.strip(" *") for value in line.strip("| ").split("|")]
            assert all(value in shown for value in values)
    assert re.search(r"^\d+ notes explain columns and settings: --notes$", shown, re.M)
    assert "\n- " not in shown
    assert main(["table", "2", "--records", str(records), "--notes"]) == 0
    notes = [" ".join(note.split()) for note in re.findall(r"^- ((?:.|\n  )+)", markdown, re.M)]
    with_notes = " ".join(ESCAPES.sub("", capsys.readouterr().out).split())
    assert len(notes) > 5
    assert all(note in with_notes for note in notes)


def test_failures_and_chance_are_shown_without_notes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a terminal would show a share of recall that no victim had, and nothing of a cell that failed."""
    for number, item in enumerate((record("clean", recalls=(1.0, 1.1)), record("mem3", failed="out of memory"))):
        replace(item, key=f"k{number}").save(tmp_path)
    on_terminal(80, monkeypatch)
    assert main(["table", "2", "--records", str(tmp_path)]) == 0
    shown = " ".join(ESCAPES.sub("", capsys.readouterr().out).split())
    assert "Near chance: victim" in shown
    assert "out of memory" in shown
    assert "notes explain columns and settings" in shown


def test_a_name_between_colons_is_no_code_of_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, other = record("clean"), record("mem3")
    named = replace(other.attack, spec="poison[file=a:smile:b]", label="Poison")
    for number, item in enumerate((clean, replace(other, attack=named))):
        replace(item, key=f"k{number}").save(tmp_path)
    on_terminal(200, monkeypatch)
    assert main(["table", "attacks", "--records", str(tmp_path)]) == 0
    assert ":smile:" in ESCAPES.sub("", capsys.readouterr().out)


@pytest.mark.parametrize("width", [50, 60, 70, 80])
def test_the_papers_values_stay_beside_ours(
    width: int, records: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_terminal(width, monkeypatch)
    assert main(["table", "2", "--records", str(records), "--beside", "paper"]) == 0
    shown = ESCAPES.sub("", capsys.readouterr().out)
    heads = [line for line in shown.splitlines() if "paper" in line and "Δ" in line]
    assert len(heads) > 1
    assert all(line.count("paper") == line.count("Δ") and line.split()[-1] == "Δ" for line in heads)


def test_a_pipe_gets_markdown(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = render(table2(load_records(records)), "markdown") + "\n"
    for extra in ([], ["--notes"], ["--format", "markdown"]):
        assert main(["table", "2", "--records", str(records), *extra]) == 0
        assert capsys.readouterr().out == expected


def test_a_terminal_gets_the_form_that_was_asked_for(
    records: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_terminal(80, monkeypatch)
    for style in FORMATS:
        assert main(["table", "2", "--records", str(records), "--format", style]) == 0
        assert capsys.readouterr().out == render(table2(load_records(records)), style) + "\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_on_a_terminal_says_what_it_says_in_a_pipe(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["list", kind]) == 0
    piped = capsys.readouterr().out
    on_terminal(80, monkeypatch)
    assert main(["list", kind]) == 0
    shown = ESCAPES.sub("", capsys.readouterr().out)
    assert max(map(len, shown.splitlines())) <= 80
    # Whatever the layout: the same words and values.
    assert set(re.findall(r"[\w./=-]+", piped)) == set(re.findall(r"[\w./=-]+", shown))


def test_tables_are_listed_with_what_they_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "tables"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{name}  {summary}" for name, summary in {**TABLES, **OF_ENTRIES}.items()
    ]

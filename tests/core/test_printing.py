"""No text from a file, a plug-in or a name steers the terminal, whichever way it is printed."""

import io
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from rich.progress import Progress

from benchmark.cli.main import main
from benchmark.core.log import TableMessage
from benchmark.core.printing import printable, show, terminal
from benchmark.export.finding import Finding
from benchmark.tables.defenses import table2
from benchmark.tables.render import render
from tests.tables.factory import record

LOG = logging.getLogger("benchmark.grid.run")
NASTY = "a\x1b[31m\n\r\x07\x7f\x9b2J\u202egpj\u2066\u2028\ud800b"
PLAIN = r"a\x1b[31m\n\r\x07\u007f\u009b2J\u202egpj\u2066\u2028\ud800b"
STEERING = [letter for letter in NASTY if not letter.isprintable()]


def test_control_marks_are_escapes_and_letters_of_any_language_stay() -> None:
    assert printable(NASTY) == PLAIN
    assert printable(PLAIN) == PLAIN
    assert printable("größer 犬 и 🐕 × → ±") == "größer 犬 и 🐕 × → ±"


def test_results_and_messages_keep_what_they_say_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    show("first", NASTY)
    LOG.error("%s is not what\n  it was in %.1f s", NASTY, 2)
    LOG.info(TableMessage("2 cells", ("defense",), [[NASTY]]))
    LOG.warning(NASTY.replace("\n", ""))
    printed = capsys.readouterr()
    assert printed.out == f"first\n{PLAIN}\n"
    lines = printed.err.splitlines()
    assert lines[:2] == [f"error: {PLAIN} is not what", "  it was in 2.0 s"]
    assert lines[2].rstrip() == "2 cells"
    assert lines[5].rstrip() == PLAIN
    assert lines[7] == f"warning: {PLAIN}".replace(r"\n", "")
    assert str(Finding(None, NASTY)) == f"– {PLAIN}"


def test_tables_and_bars_on_a_terminal_keep_their_own_codes_alone() -> None:
    file = io.StringIO()
    console = terminal(file=file, force_terminal=True, width=200, legacy_windows=False)
    console.print(f"[bold]{NASTY}[/bold]", highlight=False)
    with Progress(console=console) as progress:
        progress.update(progress.add_task(NASTY, total=1), advance=1)
    drawn = file.getvalue()
    assert "\x1b[1m" in drawn  # bold, which rich has put there
    assert r"\x1b[31m" in drawn
    assert "\x1b[31m" not in drawn
    assert "\x9b" not in drawn
    assert "\u202e" not in drawn


def test_a_terminal_of_unknown_width_shows_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setenv("LINES", "0")
    file = io.StringIO()
    terminal(file=file, force_terminal=True, legacy_windows=False).print("a table")
    assert "a table" in file.getvalue()


def test_tables_of_records_have_escapes_in_every_format() -> None:
    nasty, text = record("mem3", "cutout"), NASTY.replace("\ud800", "")  # a lone surrogate is no text for pandas
    nasty = replace(nasty, defense=replace(nasty.defense, label=text, strength=text))
    tables = table2([record("clean"), record("mem3"), nasty])
    for style in ("markdown", "html", "latex"):
        shown = render(tables, style)
        assert not [letter for letter in STEERING if letter != "\n" and letter in shown]
        assert "gpj" in shown
    (row,) = [line for line in render(tables, "markdown").splitlines() if "gpj" in line and line.startswith("|")]
    assert row.count("|") == render(tables, "markdown").splitlines()[2].count("|")


def test_json_stays_json_and_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = "red \u202e\u2066"  # a record's schema refuses labels with the others
    nasty = record("mem3", "cutout")
    for one in (record("clean"), record("mem3"), replace(nasty, defense=replace(nasty.defense, label=label))):
        one.save(tmp_path)
    assert main(["table", "2", "--records", str(tmp_path), "--format", "json"]) == 0
    out = capsys.readouterr().out
    assert not [letter for letter in STEERING if letter != "\n" and letter in out]
    assert f"{label} (cutout)" in {cell["row"] for table in json.loads(out) for cell in table["cells"]}


def test_reports_have_escapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.report.page.FIGURES", {"defenses": "recall under each defense"})
    nasty = record("mem3", "cutout")
    label = "<b>No \x1b[31m\x9b\u202e</b>"
    spec = replace(nasty.defense, label="<b>No \u202e</b>", strength=label)
    facts = {**nasty.provenance, "command": label, "device": label, "commit": label}
    replace(nasty, defense=spec, provenance=facts).save(tmp_path)
    record("clean").save(tmp_path)
    record("mem3").save(tmp_path)
    assert main(["report", "--records", str(tmp_path), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "&lt;b&gt;No" in page
    assert "<b>No" not in page
    assert not [letter for letter in ("\x1b", "\x9b", "\u202e") if letter in page]


def test_keys_of_yaml_files_and_errors_of_plug_ins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "keys.yaml").write_text(r'"\e[31mkey\n\u202E": 3', "utf-8")
    (tmp_path / "plug.py").write_text(r'raise ValueError("\x1b[31mred\n\u202e")')
    for words in (
        ["run", "--config", str(tmp_path / "keys.yaml")],
        ["list", "attacks", "--plugin", f"{tmp_path}/plug.py"],
    ):
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert r"\x1b[31m" in line
        assert r"\u202e" in line

"""Messages: one format on standard error, less with ``--quiet``, more with ``--verbose``; results stay as they are."""

import logging
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from benchmark.cli.flags import artifact_paths
from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.core.log import TableMessage, show_messages
from benchmark.core.progress import Silent, stage
from benchmark.grid.settings import RunSettings
from tests.grid.grids import run
from tests.tables.factory import record

ROOT = Path(__file__).parents[2]
LOG = logging.getLogger("benchmark.grid.run")


def test_the_level_stands_before_all_but_progress(capsys: pytest.CaptureFixture[str]) -> None:
    show_messages(logging.DEBUG)
    LOG.debug("looked")
    LOG.info("crafted MEM-3, seed 1, in 3 min 05 s")
    logging.getLogger("attacks.poison").warning("%s has no hash", "a.safetensors")
    logging.getLogger("victims.training").error("no loss")
    assert capsys.readouterr().err.splitlines() == [
        "debug: looked",
        "crafted MEM-3, seed 1, in 3 min 05 s",
        "warning: a.safetensors has no hash",
        "error: no loss",
    ]


def test_only_errors_come_from_other_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "")  # exported, and empty
    show_messages(logging.DEBUG)
    LOG.warning("said without torchrun")
    monkeypatch.setenv("RANK", "1")
    show_messages(logging.DEBUG)
    LOG.warning("said with a rank that a job has left in the shell")
    monkeypatch.setenv("WORLD_SIZE", "2")
    show_messages(logging.DEBUG)
    LOG.warning("said by the first")
    LOG.error("only here")
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "warning: said without torchrun"
    assert second == "warning: said with a rank that a job has left in the shell"
    assert third == "error: only here"


def test_quiet_leaves_the_table_and_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid: dict[str, Any] = {"attack": "clean", "defense": "none", "epochs": 1}
    assert run(tmp_path, "--quiet", **grid) == 0
    first = capsys.readouterr()
    assert first.err == ""
    assert first.out.startswith("**Table 2")
    assert run(tmp_path, "--quiet", "--dry-run", **grid) == 0
    assert capsys.readouterr().err.startswith("1 cell, 0 to run")
    (tmp_path / "plan.yaml").write_text("dry-run: true\n")
    assert run(tmp_path, "--quiet", "--config", str(tmp_path / "plan.yaml"), **grid) == 0
    assert capsys.readouterr().err.startswith("1 cell, 0 to run")
    assert run(tmp_path, "--quiet", **{**grid, "attack": "mem33"}) == 2
    assert capsys.readouterr().err.startswith("error: unknown attack 'mem33'")
    assert run(tmp_path, **grid) == 0
    assert capsys.readouterr().out == first.out


def test_quiet_names_the_cell_that_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.grid.runner.train", lambda *_, **__: 1 / 0)
    assert run(tmp_path, "--quiet", attack="clean", defense="none") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: Clean × none failed: ZeroDivisionError: division by zero (test_messages.py, line ")


def test_verbose_shows_every_epoch_and_where_data_come_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--verbose", attack="clean", defense="none", epochs=2) == 0
    debug = [line for line in capsys.readouterr().err.splitlines() if line.startswith("debug: ")]
    assert sum("epoch 1 of 2, loss " in line for line in debug) == 1
    assert any(line.startswith("debug: data set scenes") for line in debug)


@pytest.mark.parametrize("words", [["--dataset", ""], ["--out="], ["--victim", ""], ["--poisons", ""]], ids=" ".join)
def test_an_empty_value_is_not_the_default(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As of a variable of the shell that is not set."""
    assert main(["run", *words, "--dry-run"]) == 2
    assert "is empty; is a variable of the shell not set?" in capsys.readouterr().err


def test_a_value_may_end_in_an_equals_sign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "2", f"--records={tmp_path}/x="]) == 2
    assert f"no folder of records {tmp_path}/x=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [
        (["run"], True),
        (["run", "--rerun", "failed"], True),
        (["run", "--rerun", "all"], False),
        (["run", "--rerun=all"], False),
        (["table", "matrix"], False),
    ],
    ids=str,
)
def test_only_a_command_that_goes_on_says_so(
    words: list[str], goes_on: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"benchmark.cli.{words[0]}.execute", interrupted)
    assert main(words) == 130
    said = capsys.readouterr().err
    assert said.startswith("interrupted")
    assert ("goes on where it stopped" in said) is goes_on


@pytest.mark.parametrize("rerun", ["failed", "all"])
def test_a_settings_file_may_say_that_a_command_does_not_go_on(
    rerun: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.yaml").write_text(f"rerun: {rerun}\n")
    monkeypatch.setattr("benchmark.grid.run.run", Mock(side_effect=KeyboardInterrupt))
    assert main(["run", "--config", str(tmp_path / "settings.yaml")]) == 130
    assert ("goes on where it stopped" in capsys.readouterr().err) is (rerun == "failed")


@pytest.mark.parametrize(
    "words",
    [
        ["table", "1", "--records", "a", "--records=b"],
        ["run", *["--seeds", "1"] * 2],
        ["run", *["--config", "a"] * 2],
        ["run", "--dataset", "scenes", "--dataset", "openmoji"],
    ],
)
def test_a_flag_that_is_given_twice_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert re.fullmatch(r"error: --(records|seeds|config|dataset) is given twice; .*\n", capsys.readouterr().err)


def test_plug_ins_may_be_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / name for name in ("a.py", "b.py")]
    for file in files:
        file.write_text("")
    assert main(["list", "defenses", *(word for file in files for word in ("--plugin", str(file)))]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--store", "s3://x"], "--store has no meaning with --on local"),
        (["run", "--on", "ray", "--jobs", "4"], "--jobs has no meaning with --on ray"),
        (
            ["table", "2", "--records", __file__],
            f"{__file__} is a file; records are read from the folder that it is in",
        ),
        (["run", "--config", "missing.yaml"], "cannot read missing.yaml: No such file or directory"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_a_line_says_what_the_user_wrote(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_a_report_is_not_drawn_for_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record("clean").save(tmp_path)
    assert main(["report", "--records", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "is a folder; --out names the file" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [list, tuple])
def test_python_lists_and_tuples_are_read_as_lists_of_yaml(kind: Any) -> None:
    settings = RunSettings(attack=kind(["em", "mem3"]), seeds=kind([4]), protected=kind([0.5]), plugin=())
    assert (settings.attack, settings.seeds, settings.protected) == ("em,mem3", "4,", "0.5")


def test_poisons_that_are_not_kept_are_looked_for_where_they_usually_are() -> None:
    kept = {word: artifact_paths(Namespace(poisons=word, cache=None)).poisons for word in (None, "off", "elsewhere")}
    assert kept["off"] == kept[None] != kept["elsewhere"] == Path("elsewhere")


def test_an_empty_setting_is_not_the_default() -> None:
    with pytest.raises(UsageError, match="--dataset is empty"):
        RunSettings(dataset="")


def test_quiet_and_verbose_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "presets", "--quiet", "--verbose"]) == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_no_progress_where_messages_are_not_shown() -> None:
    show_messages(logging.ERROR)
    with stage("training", 3) as progress:
        assert isinstance(progress, Silent)


def test_a_table_in_a_log_is_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    LOG.info(TableMessage("2 cells", ("seed", "defense"), [[1, "none"], [2, "[b]cutout[/b]"]]))
    assert [line.rstrip() for line in capsys.readouterr().err.splitlines()] == [
        "2 cells",
        "  seed  defense",
        "------  -------------",
        "     1  none",
        "     2  [b]cutout[/b]",
        "",
    ]


@pytest.mark.parametrize(
    ("before", "shown"),
    [
        ("", "crafted\n"),
        ("logging.getLogger('benchmark').setLevel('WARNING')", ""),
        ("logging.getLogger('benchmark').addHandler(logging.NullHandler())", ""),
    ],
)
def test_python_code_sees_each_message_once_unless_it_has_its_own_way(before: str, shown: str) -> None:
    code = f"""
import logging
{before}
from benchmark.core.log import show_messages
show_messages()  # as benchmark.api does
logging.warning("a library's own")  # gives the root logger a handler
logging.getLogger("benchmark.grid").info("crafted")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == f"WARNING:root:a library's own\n{shown}"


@pytest.mark.parametrize("flag", ["--quiet", "-v"])
def test_a_flag_before_the_command_is_told_its_place(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([flag, "list", "tables"]) == 2
    assert f"{flag} stands after the command, as in 'python -m benchmark list {flag}'" in capsys.readouterr().err


def test_a_home_folder_is_found_behind_an_equals_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No shell expands the ~ of --records=~/runs."""
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    assert main(["report", "--records=~/runs"]) == 2
    assert f"{home}/runs" in capsys.readouterr().err
    assert not list(here.iterdir())

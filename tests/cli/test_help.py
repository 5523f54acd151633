"""Every ``--help``: what each flag means, its choices, its default under the preset in use, an example that works."""

import argparse
import shlex

import pytest

from benchmark.cli.flags import PRESET_FIELDS
from benchmark.cli.main import COMMANDS, build_parser, main
from benchmark.export.layouts import LAYOUTS
from benchmark.grid.presets import PRESETS

# Flags whose absence needs no words: they may be repeated, or decide what else is done.
WITHOUT_DEFAULT = {"plugin", "records", "help", "version"}


def parser_of(*argv: str) -> argparse.ArgumentParser:
    (commands,) = (a for a in build_parser(argv)._actions if isinstance(a, argparse._SubParsersAction))
    chosen: argparse.ArgumentParser = commands.choices[argv[0]]
    return chosen


def help_of(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_:
        main([*argv, "--help"])
    assert exit_.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_says_what_it_means_and_its_default(command: str) -> None:
    for action in parser_of(command)._actions:
        assert action.help, action.dest
        takes_value = action.nargs != 0 and action.option_strings and not action.required
        if takes_value and action.dest not in WITHOUT_DEFAULT:
            assert "(default: " in action.help, action.dest
        for choice in action.choices or ():
            assert choice in action.help or action.metavar is None, f"{action.dest}: {choice}"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = help_of([command] if command else [], capsys)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_is_a_command_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of([command], capsys)
    example = text.partition("example:\n")[2].splitlines()[0]
    words = shlex.split(example)
    assert words[:3] == ["python", "-m", "benchmark"]
    assert build_parser(words[3:]).parse_args(words[3:]).command == command


@pytest.mark.parametrize("preset", PRESETS)
def test_defaults_are_those_of_the_preset_in_use(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(help_of(["run", "--preset", preset], capsys).split())
    assert f"--epochs N passes over the training data (default: {PRESETS[preset].recipe.epochs})" in text
    assert f"(default: {PRESETS[preset].dataset})" in text
    assert f"are those of preset {preset}" in text


def test_settings_that_a_preset_decides_are_known() -> None:
    decided = {"dataset", "victim", "surrogate", *vars(PRESETS["tiny"].recipe)}
    assert set(PRESET_FIELDS) == decided


def test_formats_of_an_export(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(help_of(["export"], capsys).split())
    assert LAYOUTS.group("all")[:2] == ["folder", "csv"]
    assert all(f"{entry.name}: {entry.summary}" in text for entry in LAYOUTS.entries())


def test_the_program_is_called_by_the_name_that_was_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/unlearnable-bench", "list", "--help"])
    text = help_of(["list"], capsys)
    assert text.startswith("usage: unlearnable-bench list ")
    assert "\n  unlearnable-bench list attacks\n" in text

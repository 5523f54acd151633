"""Settings files, records and names that anyone may have made: one clear line, nothing executed, nothing hangs."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.grid.records import Record
from benchmark.grid.settings import RunSettings, read_yaml, setting_names
from tests.grid.grids import ATTACK, run
from tests.tables.factory import record


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr: 2024-13-45", "--lr takes a number"),
        ("out: !!python/object/apply:os.system [false]", "line 1 has an alias or a tag"),
        ("attack: &a [mem3]\ndefense: *a", "line 2 has an alias or a tag"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]", "line 2 has an alias or a tag"),
        ("a: &a {<<: *a}", "nested too deeply|an alias or a tag"),
        ("[" * 60_000, "line 1 is nested too deeply"),
        ("attack: [[mem3]]", "line 1 is nested too deeply"),
        ("attack: {mem3: 1}", "attack: expected a value or a list of values"),
        ("? [a, b]\n: c", "line 1 has a key that is no text"),
        ("seeds: 1\n? 0x" + "f" * 5000 + "\n: 1", "unknown key '0xf"),
        ("epochs: 2\nepochs: 3", "'epochs' is there twice"),
        ("batch_size: 2\nbatch-size: 3", "--batch-size is there twice, as batch_size and as batch-size"),
        ("epochs: " + "9" * 6000, "--epochs takes an integer"),
        ("epochs: 0x" + "f" * 6000, "--epochs takes an integer"),
        ("#" * 70_000, "larger than 64 KiB"),
        ('out: "a\\0b"', "--out holds a NUL character"),
        ('attack: "mem\\ud800"', "--attack is no text in UTF-8"),
        ('plugin: ["a\\udcff.py"]', "--plugin is no text in UTF-8"),
        ("plugin: 5", "no plugin file 5"),
        ("lr: .nan", "--lr takes a number"),
        ("epochs: " + "9" * 400, "--epochs takes an integer"),
        ("attack: false", "unknown attack 'false'"),
        ("preset: yes", "unknown preset 'yes'"),
        ("~: 1", "line 1 has a key that is no text"),
    ],
)
def test_settings_that_are_none(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text, "utf-8")
    assert main(["run", "--config", str(file), "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(said, line)
    assert len(line) < 800


def test_settings_from_a_pipe_or_a_device_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(UsageError, match="not a regular file"):
            read_yaml(path)


def test_a_list_of_plain_values_is_still_read(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("attack: [clean, mem3]\nseeds: [4, 7]\npoisons: off\nskip-bad: yes\nvictim: ~\nplugin: [a.py]\n")
    settings = RunSettings.from_yaml(file)
    assert (settings.attack, settings.seeds, settings.poisons, settings.victim) == ("clean,mem3", "4,7,", "off", None)
    assert (settings.skip_bad, settings.plugin) == (True, (Path("a.py"),))


def test_a_value_means_what_it_means_after_its_flag(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("on: local[jobs=2]\nout: 1.10\nepochs: 010\nseeds: [010, 08]\nevents: 12:30\ncache: off\n")
    settings = RunSettings.from_yaml(file)
    assert (settings.on, settings.out, settings.epochs, settings.seeds) == (
        "local[jobs=2]",
        Path("1.10"),
        10,
        "010,08,",
    )
    assert (settings.events, settings.cache) == (Path("12:30"), Path("off"))


@pytest.mark.parametrize("name", sorted(setting_names()))
def test_every_setting_can_be_a_key(name: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"{name}: 1\n")
    assert list(read_yaml(file)) == [name]


def test_a_plug_in_with_text_that_no_file_can_hold_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], registries_as_they_were: None
) -> None:
    plugin = tmp_path / "plug.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from defenses import DEFENSES, Defense\n"
        "@DEFENSES.register('odd')\n"
        "@dataclass(frozen=True)\n"
        "class Odd(Defense):\n"
        "    'Odd.'\n"
        "    word: str = 'caf\\udce9'\n"
        "    def on_captions(self, captions, at):\n"
        "        return [self.word for _ in captions]\n"
    )
    out = tmp_path / "runs"
    assert run(out, "--plugin", str(plugin), attack="clean", defense="odd", epochs=1) == 2
    assert "lone surrogate in" in (error := capsys.readouterr().err.splitlines()[-1])
    assert r"caf\udce9" in error
    assert not list(out.glob("*.json"))


def test_a_cell_that_fails_with_such_a_name_leaves_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no file caf\udce9 \x1b[31m")

    monkeypatch.setattr("benchmark.grid.runner.train", fail)
    assert run(tmp_path, "--quiet", attack="clean", defense="none", epochs=1) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: Clean × none failed: OSError: no file caf\\udce9 \\x1b[31m (test_hostile_files.py, ")
    (file,) = tmp_path.glob("*.json")
    assert Record.load(file).error["message"] == "no file caf\\udce9 \x1b[31m"


def test_names_of_records_fit_into_a_file_system_whatever_their_letters(tmp_path: Path) -> None:
    one = record("mem3")
    spec = replace(one.attack, spec="犬" * 200)
    one = replace(one, dataset=replace(one.dataset, spec="🐕犬" * 99), attack=spec, defense=replace(spec), victim=spec)
    name = one.file_name()
    assert len(name.encode()) <= 200
    assert Record.load(one.save(tmp_path)).attack.spec == one.attack.spec


@pytest.mark.parametrize("out", ["file", "file/runs", "link", "x" * 300])
def test_a_dry_run_refuses_a_folder_that_a_run_could_not_make(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert run(tmp_path / out, "--dry-run", attack="clean", defense="none") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot write to folder {tmp_path / out}: ")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_that_a_command_never_writes_to_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results").write_text("a file where runs would put their records")
    words = ["--dataset", "scenes[train=64,val=8,test=8]", "--preset", "micro", "--cache", str(tmp_path / "cache")]
    assert main(["export", "--attack", "uniform-noise", "--format", "folder", "--out", "out", *words]) == 0
    assert len(list(Path("out/train").glob("*.png"))) == 64


@pytest.mark.parametrize(
    "words",
    [
        ["table", "2", "--records", "NAME"],
        ["plot", "curves", "--records", "NAME"],
        ["report", "--records", "NAME"],
        ["verify", "NAME"],
        ["list", "attacks", "--plugin", "NAME"],
        ["run", "--config", "NAME"],
        ["run", "--dataset", "csv[train=NAME,test=NAME]"],
        ["run", "--victim", "tiny[pretrained=NAME]"],
        ["run", "--attack", "poison[file=NAME]"],
        ["export", "--attack", "mem3", "--format", "csv", "--out", "NAME"],
        ["check", "--reference", "NAME"],
    ],
    ids=lambda words: f"{words[0]} {words[-1]}",
)
def test_names_that_no_file_can_have_are_told_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word.replace("NAME", "x" * 300) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": 2**31 - 1}, "epochs must be between 1 and 10000"),
        ({"attack": ATTACK.replace("rounds=3", "rounds=2147483647", 1)}, "rounds must be between 1 and 1000"),
        ({"attack": "em-wordwise[steps=1000000000]"}, "steps must be between 1 and 10000"),
    ],
    ids=["epochs", "rounds", "steps"],
)
def test_billions_of_steps_are_refused_before_they_are_counted(
    settings: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "runs", "--dry-run", **settings) == 2
    assert said in capsys.readouterr().err

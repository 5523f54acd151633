"""Damaged and forged records: one line, exit code 2 and no traceback from every command that reads them, in no time."""

import gzip
import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import benchmark.grid.runner
from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.grid.opening import open_grid
from benchmark.grid.records import PACK, Record, load_records
from benchmark.grid.settings import RunSettings
from tests.grid import grids
from tests.tables.factory import POISON, record, signed
from tests.watchdog import in_no_time

SCENES = "scenes[train=40,val=8,test=12,objects=30]"
COMMITTED = next(
    one
    for one in load_records(Path(__file__).parents[2] / "results/tiny/records")
    if (one.attack.spec, one.defense.spec, one.victim.spec, one.seed) == ("mem3", "none", "tiny", 1)
)
CONTENT = json.dumps(COMMITTED.content())
TEXT = signed(COMMITTED.content())
TEST = ("epochs", "test", "image_to_text")
RECALL = (*TEST, "recall_at_10", 0)


def settings(out: Path) -> RunSettings:
    return RunSettings(attack="clean", defense="none", dataset=SCENES, batch_size=16, out=out)


@pytest.fixture(scope="module")
def planned_name(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of the record that ``run`` looks for, so that it meets the damaged one."""
    with open_grid(settings(tmp_path_factory.mktemp("runs"))) as grid:
        (planned,) = grid.plan()
    return planned.path.name


def commands(folder: Path) -> dict[str, list[str]]:
    read = ["--records", str(folder)]
    return {
        "table": ["table", "2", *read],
        "plot": ["plot", "curves", *read, "--out", str(folder / "figures")],
        "report": ["report", *read, "--out", str(folder / "report.html")],
        "run": [*shlex.split(settings(folder).to_command())[3:], "--dry-run"],
    }


def with_value(path: tuple[str | int, ...], value: object) -> Callable[[Path], None]:
    """A record with another value in one place, and a hash that fits."""

    def write(file: Path) -> None:
        data = inner = json.loads(CONTENT)
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        file.write_text(signed(data), "utf-8")

    return write


def with_text(old: str, new: str) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        assert old in TEXT
        file.write_text(TEXT.replace(old, new, 1), "utf-8")

    return write


def of_bytes(content: bytes) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        file.write_bytes(content)

    return write


def sparse(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(1 << 30)


def loop(file: Path) -> None:
    file.symlink_to(file.name)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


DAMAGES: dict[str, Callable[[Path], None]] = {
    # The file.
    "FIFO": os.mkfifo,
    "device": lambda file: file.symlink_to("/dev/zero"),
    "link to itself": loop,
    "link to nothing": lambda file: file.symlink_to("nowhere"),
    "folder": Path.mkdir,
    "sparse gigabyte": sparse,
    # The text.
    "half": of_bytes(TEXT.encode()[:2000]),
    "binary": of_bytes(bytes(range(256))),
    "NUL": of_bytes(b"\0" * 4096),
    "NUL in a name": with_text('"key"', '"k\0ey"'),
    "BOM": of_bytes(b"\xef\xbb\xbf" + TEXT.encode()),
    "half a surrogate pair": with_value(("attack", "label"), "\ud800"),
    "not UTF-8": of_bytes(TEXT.encode().replace(b"status", b"st\xe4tus", 1)),
    "100,000 brackets": of_bytes(b"[" * 100_000),
    "100,000 braces": of_bytes(b'{"a":' * 100_000),
    "100,000 brackets in a field": with_text('"versions":{', '"versions":' + "[" * 10**5 + "]" * 10**5 + ',"x":{'),
    "a name twice": with_text('"seed":1', '"seed":1,"seed":2'),
    # The kind.
    "a list": of_bytes(b"[]"),
    "a number": of_bytes(b"1"),
    "an object": of_bytes(b"{}"),
    "format as a list": with_value(("format",), []),
    "an earlier format": with_value(("format",), 2),
    "a field too many": with_value(("more",), 1),
    # The fields.
    "seed of text": with_value(("seed",), "1"),
    "seed below 0": with_value(("seed",), -1),
    "key of numbers": with_value(("key",), 7),
    "status unknown": with_value(("status",), "finished"),
    "status a list": with_value(("status",), []),
    "no epochs": with_value(("epochs",), []),
    "epochs as text": with_value(("epochs",), "14"),
    "an epoch twice": with_value(("epochs", "epoch", 1), 1),
    "epoch 0": with_value(("epochs", "epoch", 0), 0),
    "epochs without val": with_value(("epochs", "val"), None),
    "recall of 101": with_value(RECALL, 101.0),
    "recall below 0": with_value(RECALL, -0.1),
    "recall of text": with_value(RECALL, "50"),
    "recall of NaN": with_value(RECALL, float("nan")),
    "recall true": with_value(RECALL, True),
    "recall of 1e999": with_text('"recall_at_10":', '"recall_at_10":1e999,"x":'),
    "recall of 10^400": with_value(RECALL, 10**400),
    "rank 0": with_value((*TEST, "median_rank", 0), 0.0),
    "loss infinite": with_value(("loss", 0), float("-inf")),
    "loss of 1e308": with_value(("loss", 0), 1e308),
    "loss an object": with_value(("loss",), {}),
    "seconds below 0": with_value(("seconds", "train"), -1.0),
    "seconds a list": with_value(("seconds",), []),
    "memory of text": with_value(("peak_memory_mb", "train"), "1"),
    "dataset as text": with_value(("dataset",), "scenes"),
    "label as a list": with_value(("dataset", "label"), ["scenes"]),
    "label with an escape": with_value(("attack", "label"), "\x1b]0;gone\x07"),
    "label of a megabyte": with_value(("attack", "label"), "x" * 10**6),
    "spec null": with_value(("attack", "spec"), None),
    "params a list": with_value(("attack", "params"), []),
    "k of text": with_value(("attack", "params", "k"), "three"),
    "k of 10^400": with_value(("attack", "params", "k"), 10**400),
    "params nested": with_value(("attack", "params", "deep"), nested(400)),
    "10^12 test images": with_value(("dataset", "params", "test_images"), 10**12),
    "10^12 test captions": with_value(("dataset", "params", "test_captions"), 10**12),
    "half a test image": with_value(("dataset", "params", "test_images"), 0.5),
    "more images than captions": with_value(("dataset", "params", "test_captions"), 1),
    "a poison of ε alone": with_value(("poison",), {"eps": 8}),
    "data without sizes": with_value(("dataset", "params"), {"seed": 1}),
    "a recipe of epochs alone": with_value(("recipe",), {"epochs": 14}),
    "resolution of 10^9": with_value(("dataset", "params", "resolution"), 10**9),
    "train images of text": with_value(("dataset", "params", "train_images"), "many"),
    "fingerprint null": with_value(("dataset", "params", "fingerprint"), None),
    "recipe a list": with_value(("recipe",), []),
    "batch size of text": with_value(("recipe", "batch_size"), "128"),
    "recipe's epochs nested": with_value(("recipe", "epochs"), nested(3)),
    "PSNR of text": with_value(("poison", "psnr"), "33 dB"),
    "SSIM of 2": with_value(("poison", "ssim"), 2.0),
    "largest of text": with_value(("poison", "largest"), "8"),
    "trigger words a list": with_value(("poison", "trigger_words"), ["dog"]),
    "trigger words below 0": with_value(("poison", "trigger_words"), {"dog": -1}),
    "AUC of text": with_value(("poison", "probe_trigger_auc"), "0.9"),
    "shuffled AUC of text": with_value(("poison", "probe_trigger_shuffled"), "x"),
    "AUC alone": with_value(("poison",), {**POISON, "probe_trigger_auc": 0.6}),
    "AUC by word as text": with_value(("poison", "probe_trigger_words"), "dog"),
    "crafting loss NaN": with_value(("poison", "loss_per_round"), [float("nan")]),
    "crafting loss nested": with_value(("poison", "loss_per_round"), [[1.0]]),
    "provenance as text": with_value(("provenance",), "here"),
    "versions a list": with_value(("provenance", "versions"), ["torch"]),
    "code as text": with_value(("provenance", "code"), "0123"),
    "fingerprints a list": with_value(("provenance", "fingerprints"), []),
    "threads a list": with_value(("provenance", "threads"), [1]),
    "processes of text": with_value(("provenance", "processes"), "two"),
    "device a list": with_value(("provenance", "device"), ["cpu"]),
    "finished a number": with_value(("provenance", "finished"), 5),
    "another name in a spec": with_value(("attack", "paramz"), {}),
    "another name in an epoch": with_value(("epochs", "protectd"), None),
    "a later format": with_value(("format",), 4),
    "failed without a message": with_value(("status",), "failed"),
    "error of numbers": with_value(("error",), {"message": 5}),
}


@pytest.mark.parametrize(
    ("damage", "said"),
    {
        "recall of 101": "epochs[0].test.image_to_text.recall_at_10: Expected `float` <= 100.0",
        "recall of NaN": "NaN where a number belongs",
        "k of text": "attack.params.k: Expected `int | null`, got `str`",
        "10^12 test images": "dataset.params.test_images: Expected `int` <= 10000000",
        "data without sizes": "dataset.params: the key 'resolution' is missing",
        "AUC alone": "poison: probe_trigger_auc, but no probe_trigger_shuffled",
        "FIFO": "not a regular file",
        "sparse gigabyte": "larger than 16 MiB",
        "100,000 brackets": "nested too deeply",
        "a field too many": "unknown field 'more'",
        "an object": "it has no field 'format'",
        "another name in a spec": "unknown field 'attack.paramz'",
        "another name in an epoch": "unknown field 'epochs.protectd'",
        "a later format": "record format 4; this version reads format 3",
    }.items(),
)
def test_the_line_names_place_and_reason(damage: str, said: str, tmp_path: Path) -> None:
    DAMAGES[damage](tmp_path / "x.json")
    with in_no_time(), pytest.raises(UsageError, match=rf"x\.json is not a readable record: .*{re.escape(said)}"):
        load_records(tmp_path)


def test_a_pack_may_be_nested_to_any_depth(tmp_path: Path) -> None:
    """At one depth of several hundred, JSON can still be read but no longer be written for its hash."""
    for depth in range(500, 1001):
        nested = "[" * depth + "]" * depth
        line = f'{{"format": 3, "provenance": {nested}, "sha256": "x"}}'
        (tmp_path / PACK).write_bytes(gzip.compress(line.encode(), 1))
        with pytest.raises(UsageError, match="line 1 is not a readable record"):
            load_records(tmp_path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_in_one_line(
    damage: str, planned_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / planned_name
    DAMAGES[damage](file)
    for name, command in commands(tmp_path).items():
        with in_no_time():
            code = main(command)
        printed = capsys.readouterr()
        assert code == 2, (name, printed)
        (line,) = printed.err.splitlines()
        assert file.name in line, name
        assert len(line) < 600
        assert printed.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name]


def test_the_largest_numbers_that_are_read_hang_nothing(tmp_path: Path) -> None:
    data = json.loads(CONTENT)
    data["dataset"]["params"] |= {"test_images": 1, "test_captions": 10**8}
    (tmp_path / "few.json").write_text(signed(data), "utf-8")
    with in_no_time():
        assert main(["table", "2", "--records", str(tmp_path)]) == 0
    data["dataset"]["params"] |= {"test_images": 10**7, "test_captions": 10**7}
    (tmp_path / "few.json").write_text(signed(data), "utf-8")
    with in_no_time():
        assert main(["table", "2", "--records", str(tmp_path)]) == 0


def test_an_empty_record_counts_as_missing(
    planned_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A crash of the machine may leave a file without its content."""
    monkeypatch.setattr("benchmark.report.page.FIGURES", {})
    (tmp_path / planned_name).touch()
    record("mem3").save(tmp_path)
    for name, command in commands(tmp_path).items():
        assert main(command) == 0, name
        warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        (warning,) = [line for line in warnings if "empty" in line]
        assert planned_name in warning
        assert "counts as missing" in warning
    assert [one.attack.spec for one in load_records(tmp_path)] == ["mem3"]


def test_a_changed_digit_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = record("mem3", recalls=(12.5, 8.0)).save(tmp_path)
    assert Record.load(file) == record("mem3", recalls=(12.5, 8.0))
    whole = file.read_text("utf-8")
    assert whole.count("12.5") == 1
    for damaged in (
        whole.replace("12.5", "13.5"),
        whole.replace('"label":"MEM-3"', '"label":"MEM-5"'),
        json.dumps({name: value for name, value in json.loads(whole).items() if name != "sha256"}),
    ):
        assert damaged != whole
        file.write_text(damaged, "utf-8")
        assert main(["table", "2", "--records", str(tmp_path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "its content does not match its SHA-256" in line
        assert file.name in line
    # Layout is not content.
    file.write_text(json.dumps(json.loads(whole), sort_keys=True), "utf-8")
    assert main(["table", "2", "--records", str(tmp_path)]) == 0


def test_what_would_not_be_read_back_fails_its_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark.grid.runner, "describe_poison", lambda *_: {"loss_per_round": [float("nan")]})
    assert grids.run(tmp_path, attack="clean", defense="none", epochs=1) == 1
    (failed,) = load_records(tmp_path)
    assert failed.status == "failed"
    assert "poison.loss_per_round[0]: Expected `float`" in failed.error["message"]
    assert "Traceback" not in capsys.readouterr().err

"""A pack holds a folder's finished records in one file: nothing that reads records sees a difference."""

import gzip
import json
import os
from pathlib import Path

import pytest

from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.grid.estimate import _records_in
from benchmark.grid.records import PACK, load_records
from tests.grid.grids import run
from tests.tables.factory import record
from tests.tools.pack_records import pack_records


def fill(folder: Path) -> None:
    for one in (record("clean"), record("mem3"), record("mem3", "cutout", seed=2), record("em", failed="no memory")):
        one.save(folder)


def lines_in(folder: Path) -> list[str]:
    return gzip.decompress((folder / PACK).read_bytes()).decode().splitlines()


def write_lines(folder: Path, text: str) -> None:
    (folder / PACK).write_bytes(gzip.compress(text.encode()))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_records_are_the_same_in_files_and_in_a_pack(tmp_path: Path) -> None:
    fill(tmp_path)
    before = load_records(tmp_path)
    files = [json.loads(path.read_text("utf-8")) for path in sorted(tmp_path.glob("*.json"))]
    assert pack_records(tmp_path) == 3
    assert load_records(tmp_path) == before
    lines = lines_in(tmp_path)
    assert [json.loads(line) for line in lines] == [one for one in files if one["status"] == "done"]
    # What has failed will run again.
    assert names(tmp_path) == {PACK, *(one.file_name() for one in before if one.status == "failed")}
    assert [one.attack.spec for one in _records_in(tmp_path)] == ["em", "clean", "mem3", "mem3"]
    held = (tmp_path / PACK).read_bytes()
    assert pack_records(tmp_path) == 3
    assert (tmp_path / PACK).read_bytes() == held


def test_a_file_takes_the_place_of_its_line(tmp_path: Path) -> None:
    fill(tmp_path)
    pack_records(tmp_path)
    newer = record("mem3", recalls=(1.5, 2.5))
    newer.save(tmp_path)
    assert [one for one in load_records(tmp_path) if (one.attack.spec, one.seed) == ("mem3", 1)] == [newer]
    assert pack_records(tmp_path) == 3
    assert not (tmp_path / newer.file_name()).exists()
    assert newer in load_records(tmp_path)


def test_commands_read_a_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path)
    said = []
    for _ in range(2):
        assert main(["table", "2", "--records", str(tmp_path)]) == 0
        said.append(capsys.readouterr().out)
        pack_records(tmp_path)
    assert said[0] == said[1]


def test_cells_in_a_pack_are_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, attack="clean", defense="cutout[size=0.5]", epochs=1) == 0
    assert pack_records(tmp_path) == 2
    held = (tmp_path / PACK).read_bytes()
    capsys.readouterr()
    assert run(tmp_path, attack="clean", defense="cutout[size=0.5]", epochs=1) == 0
    assert "2 cells, 0 to run" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.json"))
    # Under another spelling one is known as well, and gets a record of that name.
    assert run(tmp_path, attack="clean", defense="cutout", epochs=1) == 0
    assert "2 cells, 0 to run" in capsys.readouterr().err
    assert [path.name.split("_")[2] for path in tmp_path.glob("*.json")] == ["cutout"]
    # What runs again has a file, which counts from then on.
    assert run(tmp_path, "--rerun", "all", attack="clean", defense="cutout", epochs=1) == 0
    assert len(list(tmp_path.glob("*.json"))) == 2
    assert (tmp_path / PACK).read_bytes() == held
    assert pack_records(tmp_path) == len(load_records(tmp_path)) == 3


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"seed":2', '"seed":3', "line 2 is not a readable record: its content does not match its SHA-256"),
        ('{"key"', '{"key', "line 1 is not a readable record: "),
        ("\n{", "\n\n{", "line 2 is not a readable record: "),
        ('"format":3', '"format":4', "line 1 is not a readable record: record format 4"),
    ],
)
def test_a_damaged_line_is_named(
    old: str, new: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path)
    pack_records(tmp_path)
    text = "\n".join(lines_in(tmp_path)) + "\n"
    assert old in text
    write_lines(tmp_path, text.replace(old, new, 1))
    with pytest.raises(UsageError, match=f"{PACK}, {said}"):
        load_records(tmp_path)
    assert main(["table", "2", "--records", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not [one for one in _records_in(tmp_path) if one.status == "done"]  # an estimate can do without


def test_a_line_twice_and_what_is_no_file_are_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    pack_records(tmp_path)
    text = "\n".join(lines_in(tmp_path)) + "\n"
    write_lines(tmp_path, text + text.splitlines()[0] + "\n")
    with pytest.raises(UsageError, match="line 4 is not a readable record: it is there twice"):
        load_records(tmp_path)
    (tmp_path / PACK).unlink()
    os.mkfifo(tmp_path / PACK)
    with pytest.raises(UsageError, match=f"{PACK} is not a readable pack of records: not a regular file"):
        load_records(tmp_path)
    (tmp_path / PACK).unlink()
    with (tmp_path / PACK).open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(UsageError, match="larger than 64 MiB"):
        load_records(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"key": 1}\n', "damaged, or not compressed by gzip"),
        (gzip.compress(b"{}\n")[:-6], "it is cut off"),
        (gzip.compress(b"{}\n") + b"more", "more follows"),
        (gzip.compress(b"{}\n") * 2, "more follows"),
        (gzip.compress(b"\xff\n"), "can't decode byte 0xff"),
        (gzip.compress(bytes(1 << 27)), "its text is longer than 64 MiB"),
    ],
    ids=["not compressed", "cut off", "more behind it", "two in one", "not UTF-8", "too long"],
)
def test_a_pack_that_does_not_unpack_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / PACK).write_bytes(content)
    with pytest.raises(UsageError, match=f"{PACK} is not a readable pack of records: .*{said}"):
        load_records(tmp_path)


def test_a_line_is_no_longer_than_a_file_of_a_record_may_be(tmp_path: Path) -> None:
    write_lines(tmp_path, "[" + "[]," * (6 << 20) + "[]]\n")
    with pytest.raises(UsageError, match=f"{PACK}, line 1 is not a readable record: longer than 16 MiB"):
        load_records(tmp_path)


def test_what_no_pack_may_hold_stays_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record("em", failed="no memory").save(tmp_path)
    assert pack_records(tmp_path) == 0
    fill(tmp_path)
    before = names(tmp_path)
    monkeypatch.setattr("tests.tools.pack_records.MOST_PACKED", 1000)
    with pytest.raises(UsageError, match="holds more records than a pack may"):
        pack_records(tmp_path)
    assert names(tmp_path) == before

"""Whatever byte of a cache entry changes: the same content is read, or it is made anew with a warning."""

import errno
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.core.digests import json_sha256
from benchmark.core.errors import UsageError
from tests.data.test_data_cache import CAPTIONS, Drawer, entries, load

FILES = ("train.npy", "val.npy", "test.npy", "entry.json")


class Heard(logging.Handler):
    """Counts warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture(scope="module")
def heard() -> Heard:
    return Heard()


def require_same_or_anew(folder: Path, heard: Heard, damage: Callable[[Path], object]) -> bool:
    """Damage a whole entry and read it; returns whether it was made anew."""
    if not folder.exists() or not entries(folder):
        load(folder, Drawer())
    (entry,) = entries(folder)
    before = {file: file.read_bytes() for file in entry.iterdir()}
    damage(entry)
    heard.lines.clear()
    draw, log = Drawer(), logging.getLogger("benchmark.data.cache")
    log.addHandler(heard)
    try:
        splits = load(folder, draw)
    finally:
        log.removeHandler(heard)
    assert np.array_equal(splits.train.images[:], np.random.default_rng(5).integers(0, 256, (2, 3, 8, 8)))
    assert (splits.train.captions, splits.test.captions) == (CAPTIONS["train"], CAPTIONS["test"])
    assert entries(folder) == [entry]
    assert draw.calls in (0, 3)
    assert [str(entry) in line and "\n" not in line for line in heard.lines] == [True] * (draw.calls // 3)
    for file, content in before.items():
        file.write_bytes(content)
    return draw.calls > 0


def change(name: str, position: int, by: int) -> Callable[[Path], object]:
    def damage(entry: Path) -> None:
        content = bytearray((entry / name).read_bytes())
        content[position % len(content)] ^= by
        (entry / name).write_bytes(content)

    return damage


def test_every_byte_of_the_header_of_an_array(tmp_path: Path, heard: Heard) -> None:
    for position in range(128):
        require_same_or_anew(tmp_path, heard, change("train.npy", position, 0x08 << position % 5))


@given(st.sampled_from(FILES), st.integers(0, 4000), st.integers(1, 255))
@settings(max_examples=100)
def test_any_byte_of_any_file(
    tmp_path_factory: pytest.TempPathFactory, heard: Heard, name: str, position: int, by: int
) -> None:
    require_same_or_anew(tmp_path_factory.getbasetemp() / "any-byte", heard, change(name, position, by))


def nested(entry: Path) -> None:
    (entry / "entry.json").write_text("[" * 100_000)


def nested_with_hash(entry: Path) -> None:
    index = json.loads((entry / "entry.json").read_text())
    (entry / "entry.json").write_text(json.dumps(index)[:-1] + ', "deep": ' + "[" * 900 + "]" * 900 + "}")


def endless_number(entry: Path) -> None:
    (entry / "entry.json").write_text("1" * 10_000)


def captions_of_another_kind(entry: Path) -> None:
    index = json.loads((entry / "entry.json").read_text())
    del index["sha256"]
    index["train"]["captions"][0] = [None]
    (entry / "entry.json").write_text(json.dumps({**index, "sha256": json_sha256(index)}))


def pipe_in_place_of_the_index(entry: Path) -> None:
    (entry / "entry.json").unlink()
    os.mkfifo(entry / "entry.json")


def huge_index(entry: Path) -> None:
    os.truncate(entry / "entry.json", 1 << 42)


def folder_in_place_of_the_index(entry: Path) -> None:
    (entry / "entry.json").unlink()
    (entry / "entry.json").mkdir()


def file_in_place_of_the_entry(entry: Path) -> None:
    for file in entry.iterdir():
        file.unlink()
    entry.rmdir()
    entry.write_text("no folder")


def text_in_place_of_an_array(entry: Path) -> None:
    (entry / "val.npy").write_text("a cat asleep")


def pickle_in_place_of_an_array(entry: Path) -> None:
    np.save(entry / "val.npy", np.array([{"a": 1}], object), allow_pickle=True)


def longer_array(entry: Path) -> None:
    with (entry / "val.npy").open("ab") as file:
        file.write(b"\0")


@pytest.mark.parametrize(
    "damage",
    [
        nested,
        nested_with_hash,
        endless_number,
        captions_of_another_kind,
        pipe_in_place_of_the_index,
        huge_index,
        folder_in_place_of_the_index,
        file_in_place_of_the_entry,
        text_in_place_of_an_array,
        pickle_in_place_of_an_array,
        longer_array,
    ],
)
def test_whole_files(damage: Callable[[Path], None], tmp_path: Path, heard: Heard) -> None:
    assert require_same_or_anew(tmp_path, heard, damage)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM, errno.EACCES])
def test_an_entry_that_cannot_be_read_at_present_stays(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may be at it, and it may take hours to make."""
    load(tmp_path, Drawer())
    before = entries(tmp_path)

    def fails(*_: object) -> str:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr("benchmark.data.cache.read_text", fails)
        with pytest.raises(UsageError, match=f"cannot read the cache folder .*: {re.escape(os.strerror(code))}"):
            load(tmp_path, Drawer())
    assert entries(tmp_path) == before
    draw = Drawer()
    load(tmp_path, draw)
    assert draw.calls == 0

"""The cache: written whole or not at all, verified on reading, made anew when damaged."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmark.data import Splits
from benchmark.data.cache import cached_splits
from benchmark.data.dataset import Images
from benchmark.errors import UsageError

CAPTIONS = {"train": [["one", "eins"], ["two"]], "val": [["three"]], "test": [["fünf"]]}


class Drawer:
    """Draws different numbers for each split and counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, split: str, out: Images) -> None:
        self.calls += 1
        out[:] = np.random.default_rng(len(split)).integers(0, 256, out.shape)


def load(folder: Path, draw: Callable[[str, Images], None], version: int = 1) -> Splits:
    return cached_splits(folder, "name", "kind", {"version": version}, CAPTIONS, 8, draw)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_drawn_once_and_read_back_memory_mapped(tmp_path: Path) -> None:
    draw = Drawer()
    first = load(tmp_path / "new" / "folder", draw)
    again = load(tmp_path / "new" / "folder", draw)
    assert draw.calls == 3
    assert isinstance(again.train.images, np.memmap)
    assert not again.train.images.flags.writeable
    assert again.train.captions == CAPTIONS["train"]
    assert again.test.captions == [["fünf"]]
    assert again.train.fingerprint == first.train.fingerprint
    expected = np.random.default_rng(len("train")).integers(0, 256, (2, 3, 8, 8))
    assert np.array_equal(again.train.images, expected)


def test_key_and_captions_decide_the_entry(tmp_path: Path) -> None:
    draw = Drawer()
    load(tmp_path, draw)
    load(tmp_path, draw, version=2)
    cached_splits(tmp_path, "name", "kind", {"version": 1}, CAPTIONS | {"val": [["other"]]}, 8, draw)
    cached_splits(tmp_path, "name", "kind", {"version": 1}, CAPTIONS, 16, draw)
    assert draw.calls == 12
    assert len(entries(tmp_path)) == 4


def flip_a_pixel(entry: Path) -> None:
    content = bytearray((entry / "test.npy").read_bytes())
    content[-1] ^= 1
    (entry / "test.npy").write_bytes(content)


def change_a_caption(entry: Path) -> None:
    index = json.loads((entry / "entry.json").read_text())
    index["train"]["captions"][0][0] = "zero"
    (entry / "entry.json").write_text(json.dumps(index))


def cut_short(entry: Path) -> None:
    (entry / "train.npy").write_bytes((entry / "train.npy").read_bytes()[:200])


def empty_array(entry: Path) -> None:
    (entry / "train.npy").write_bytes(b"")


def remove_array(entry: Path) -> None:
    (entry / "val.npy").unlink()


def break_json(entry: Path) -> None:
    (entry / "entry.json").write_text("{")


def other_json(entry: Path) -> None:
    (entry / "entry.json").write_text("[]")


@pytest.mark.parametrize(
    "damage", [flip_a_pixel, change_a_caption, cut_short, empty_array, remove_array, break_json, other_json]
)
def test_a_damaged_entry_is_made_anew_with_a_warning(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draw = Drawer()
    whole = load(tmp_path, draw)
    expected = np.array(whole.train.images), np.array(whole.test.images)
    (entry,) = entries(tmp_path)
    damage(entry)
    with caplog.at_level(logging.WARNING):
        mended = load(tmp_path, draw)
    assert draw.calls == 6
    assert [str(entry) in record.getMessage() for record in caplog.records] == [True]
    assert np.array_equal(mended.train.images, expected[0])
    assert np.array_equal(mended.test.images, expected[1])
    assert mended.train.captions == CAPTIONS["train"]
    assert entries(tmp_path) == [entry]


def test_a_failed_drawing_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(split: str, out: Images) -> None:
        if split == "val":
            raise UsageError("image x.png cannot be read")

    with pytest.raises(UsageError, match=r"x\.png"):
        load(tmp_path, fail)
    assert entries(tmp_path) == []


def test_a_winner_that_came_first_is_kept(tmp_path: Path) -> None:
    winner = Drawer()

    def slow(split: str, out: Images) -> None:
        if split == "test":
            load(tmp_path, winner)
        Drawer()(split, out)

    splits = load(tmp_path, slow)
    assert winner.calls == 3
    assert len(entries(tmp_path)) == 1
    assert len(splits.train) == 2


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UsageError, match=f"cannot write the cache folder {tmp_path / 'file' / 'cache'}"):
        load(tmp_path / "file" / "cache", Drawer())


def test_a_full_disk_is_told_before_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Drawer()
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(UsageError, match="free space"):
        load(tmp_path, draw)
    assert draw.calls == 0

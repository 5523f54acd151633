"""The cache: written whole or not at all, verified on reading, made anew when damaged."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.core.errors import UsageError
from benchmark.data import CaptionDataset, Splits, cache
from benchmark.data.cache import _CHUNK, Draw, cached_splits
from benchmark.data.dataset import Images

CAPTIONS = {"train": [["one", "eins"], ["two"]], "val": [["three"]], "test": [["fünf"]]}


class Drawer:
    """Draws different numbers for each split and counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, split: str, out: Images) -> None:
        self.calls += 1
        out[:] = np.random.default_rng(len(split)).integers(0, 256, out.shape)


def load(folder: Path, draw: Draw, version: int = 1) -> Splits:
    return cached_splits(folder, "name", "kind", {"version": version}, CAPTIONS, 8, draw)


def entries(folder: Path) -> list[Path]:
    """What lies in a cache besides the empty files of locks."""
    return sorted(path for path in folder.iterdir() if path.suffix != ".lock" or path.stat().st_size)


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


def change_a_fingerprint(entry: Path) -> None:
    index = json.loads((entry / "entry.json").read_text())
    index["val"]["fingerprint"] = index["test"]["fingerprint"]
    (entry / "entry.json").write_text(json.dumps(index))


def swap_images(entry: Path) -> None:
    content = (entry / "train.npy").read_bytes()
    size = 3 * 8 * 8
    (entry / "train.npy").write_bytes(content[: -2 * size] + content[-size:] + content[-2 * size : -size])


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_pixel,
        swap_images,
        change_a_caption,
        change_a_fingerprint,
        cut_short,
        empty_array,
        remove_array,
        break_json,
        other_json,
    ],
)
def test_a_damaged_entry_is_made_anew_with_a_warning(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = Drawer()
    splits = load(tmp_path, draw)
    expected = np.array(splits.train.images), np.array(splits.test.images)
    (entry,) = entries(tmp_path)
    damage(entry)
    capsys.readouterr()
    mended = load(tmp_path, draw)
    assert draw.calls == 6
    assert [str(entry) in line for line in capsys.readouterr().err.splitlines()] == [True]
    assert np.array_equal(mended.train.images[:], expected[0])
    assert np.array_equal(mended.test.images[:], expected[1])
    assert mended.train.captions == CAPTIONS["train"]
    assert entries(tmp_path) == [entry]


def test_every_stretch_is_hashed(tmp_path: Path) -> None:
    """Damage is found wherever it is, also where images are many and hashed in several parts."""
    count, pixels = 2 * _CHUNK + 3, 3 * 8 * 8
    captions = {"train": [["x"]] * count, "val": [["x"]], "test": [["x"]]}
    draw = Drawer()

    def load_many() -> Splits:
        return cached_splits(tmp_path, "name", "kind", {}, captions, 8, draw)

    expected = np.array(load_many().train.images)
    (file,) = tmp_path.glob("*/train.npy")
    start = file.stat().st_size - count * pixels
    for image in (0, _CHUNK - 1, _CHUNK, 2 * _CHUNK, count - 1):
        content = bytearray(file.read_bytes())
        content[start + image * pixels] ^= 1
        file.write_bytes(content)
        draw.calls = 0
        assert np.array_equal(load_many().train.images[:], expected)
        assert draw.calls == 3


def test_the_kept_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    def leave_out(split: str, out: Images) -> dict[int, str]:
        Drawer()(split, out)
        return {1: "bad"} if split == "train" else {}

    for draw in (Drawer(), leave_out):
        load(tmp_path / draw.__class__.__name__, draw)
        for split in vars(load(tmp_path / draw.__class__.__name__, draw)).values():
            if isinstance(split, CaptionDataset):
                assert "fingerprint" in vars(split)
                assert split.fingerprint == replace(split, images=np.array(split.images[:])).fingerprint


def test_images_may_be_left_out(tmp_path: Path) -> None:
    def draw(split: str, out: Images) -> dict[int, str]:
        Drawer()(split, out)
        return {0: "image x.png cannot be read"} if split == "train" else {}

    expected = np.random.default_rng(len("train")).integers(0, 256, (2, 3, 8, 8))
    for splits in (load(tmp_path, draw), load(tmp_path, Drawer())):
        assert splits.train.captions == [["two"]]
        assert splits.left_out == ("image x.png cannot be read",)
        assert splits.train.images.shape == (1, 3, 8, 8)
        assert np.array_equal(splits.train.images[:], expected[1:])


def test_a_failed_drawing_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(split: str, out: Images) -> None:
        if split == "val":
            raise UsageError("image x.png cannot be read")

    with pytest.raises(UsageError, match=r"x\.png"):
        load(tmp_path, fail)
    assert entries(tmp_path) == []


def test_a_winner_that_came_first_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As another machine, where locks hold within one only.
    monkeypatch.setattr(cache, "claimed", lambda *_, **__: nullcontext())
    winner = Drawer()

    def slow(split: str, out: Images) -> None:
        if split == "test":
            load(tmp_path, winner)
        Drawer()(split, out)

    splits = load(tmp_path, slow)
    assert winner.calls == 3
    assert len(entries(tmp_path)) == 1
    assert len(splits.train) == 2


@pytest.mark.parametrize("killed", [False, True])
def test_processes_that_start_together_draw_once(killed: bool, tmp_path: Path) -> None:
    """The second waits for the first, and draws if that was killed meanwhile."""
    script, folder = tmp_path / "start.py", tmp_path / "cache"
    script.write_text(
        "import logging, sys\n"
        "from pathlib import Path\n"
        "from benchmark.data.cache import cached_splits\n"
        "def draw(split, out):\n"
        "    print(split, flush=True)\n"
        "    sys.stdin.read()\n"
        "    out[:] = len(split)\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(name)s')\n"
        f"cached_splits(Path({str(folder)!r}), 'name', 'kind', {{'version': 1}}, {CAPTIONS!r}, 8, draw)\n"
    )

    def start(stdin: int) -> "subprocess.Popen[str]":
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, str(script)]
        return subprocess.Popen(command, env=environment, stdin=stdin, stdout=subprocess.PIPE, text=True)

    with start(subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "train\n"
        with start(subprocess.DEVNULL) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "benchmark.core.locks\n"
            if killed:
                first.kill()
            drawn, _ = first.communicate()
            assert drawn.split() == ([] if killed else ["val", "test"])
            assert second.stdout.read().split() == (["train", "val", "test"] if killed else [])
        assert second.returncode == 0
    assert len(entries(folder)) == 1
    draw = Drawer()
    assert load(folder, draw).train.images[0].max() == len("train")
    assert draw.calls == 0


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

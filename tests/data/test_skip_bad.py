"""Bad images that are left out: listed at every start, decoded once, never more of them than are bad."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.core.errors import UsageError
from benchmark.data import image_files as files
from benchmark.data.csv_table import CsvTable
from benchmark.data.dataset import Images
from benchmark.data.image_location import ImageLocation
from benchmark.data.imagefolder import ImageFolder
from benchmark.data.images import read_image
from benchmark.grid.choices import choose_dataset
from tests.data.test_data_cache import entries

MakeImages = Callable[..., None]


@pytest.fixture
def source(tmp_path: Path, make_images: MakeImages) -> CsvTable:
    """Ten images to train on, of which 3 is text, 5 is missing and 7 has no caption; one each for val and test."""
    make_images(*(f"{number}.png" for number in range(12)))
    (tmp_path / "3.png").write_text("text")
    (tmp_path / "5.png").unlink()
    rows = [f"{number}.png,{'' if number == 7 else f'number {number}'}\n" for number in range(12)]
    for name, split_rows in {"train": rows[:10], "val": rows[10:11], "test": rows[11:]}.items():
        (tmp_path / f"{name}.csv").write_text("filepath,title\n" + "".join(split_rows))
    train, test, val = (f"{tmp_path}/{name}.csv" for name in ("train", "test", "val"))
    return CsvTable(train, test, val, skip_bad=True)


def test_bad_images_are_listed_at_every_start_and_decoded_once(
    source: CsvTable, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    for start in range(2):
        splits = source.load(8, tmp_path / "cache")
        assert [caption for (caption,) in splits.train.captions] == [f"number {n}" for n in (0, 1, 2, 4, 6, 8, 9)]
        assert splits.train.images[:][:, 0, 0, 0].tolist() == [0, 1, 2, 4, 6, 8, 9]
        assert splits.train.batch(np.array([3, 0]))[:, 0, 0, 0].tolist() == [4, 0]
        said.append(capsys.readouterr().err.splitlines())
        if not start:
            monkeypatch.setattr(files, "read_image", None)
    assert said[0] == said[1]
    assert said[0][0] == "warning: 3 of 12 images left out, by skip_bad"
    reasons = ["5.png does not exist", "7.png has no caption", "3.png cannot be read: not an image"]
    assert len(said[0]) == 4
    for line, reason in zip(said[0][1:], reasons, strict=True):
        assert reason in line
    assert len(list((tmp_path / "cache").glob("csv-*"))) == 1


def test_nothing_is_left_out_unasked(source: CsvTable, tmp_path: Path) -> None:
    source.load(8, tmp_path / "cache")
    plain = CsvTable(source.train, source.test, source.val)
    for missing in ("5.png does not exist", "7.png has no caption", "3.png cannot be read"):
        with pytest.raises(UsageError, match=missing):
            plain.load(8, tmp_path / "cache")
        number = missing[0]
        Image.new("RGB", (20, 16), (int(number), 100, 200)).save(tmp_path / f"{number}.png")
        table = tmp_path / "train.csv"
        table.write_text(table.read_text().replace(f"{number}.png,\n", f"{number}.png,number {number}\n"))
    assert len(plain.load(8, tmp_path / "cache").train) == 10


def test_a_mended_image_comes_back(source: CsvTable, tmp_path: Path) -> None:
    source.load(8, tmp_path / "cache")
    for number in (3, 5):
        Image.new("RGB", (20, 16), (number, 100, 200)).save(tmp_path / f"{number}.png")
    splits = source.load(8, tmp_path / "cache")
    assert splits.train.images[:][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9]


@pytest.mark.parametrize("fault", ["missing", "text"])
def test_all_images_bad(fault: str, source: CsvTable, tmp_path: Path) -> None:
    (tmp_path / "11.png").unlink()
    if fault == "text":
        (tmp_path / "11.png").write_text("text")
    with pytest.raises(UsageError, match=r"test: no image is left, all are bad; the first reason: image .*11\.png"):
        source.load(8, tmp_path / "cache")
    assert not list(tmp_path.glob("cache/[!.]*px-*"))


def test_a_failing_disk_leaves_nothing_out(source: CsvTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, mode: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("benchmark.data.images.open_image", lambda source: fail(source, "rb"))
        with pytest.raises(UsageError, match=r"\.png cannot be read: Input/output error"):
            source.load(8, tmp_path / "cache")
    assert entries(tmp_path / "cache") == [tmp_path / "cache" / "content"]


def test_a_link_to_itself_and_a_name_too_long_are_bad(
    source: CsvTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "5.png").symlink_to("5.png")
    table = tmp_path / "train.csv"
    table.write_text(table.read_text().replace("3.png", f"{'3' * 300}.png"))
    assert len(source.load(8, tmp_path / "cache").train) == 7
    said = capsys.readouterr().err
    assert "5.png cannot be read: Too many levels of symbolic links" in said
    assert "3.png cannot be read: File name too long" in said


def test_an_image_without_permission_is_bad(
    source: CsvTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: path.name != "4.png")
    assert "number 4" not in str(source.load(8, tmp_path / "cache").train.captions)
    assert "4.png cannot be read: no permission" in capsys.readouterr().err


def test_a_name_that_is_not_unicode_can_be_listed_and_kept(
    tmp_path: Path, make_images: MakeImages, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val", "test"):
        make_images(f"{split}/0.png")
        (tmp_path / split / "0.txt").write_text("x")
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / "train" / f"{name}.png").write_text("text")
    (tmp_path / "train" / f"{name}.txt").write_text("y")
    for _ in range(2):
        splits = ImageFolder(str(tmp_path), skip_bad=True).load(8, tmp_path / "cache")
        assert len(splits.train) == 1
        assert f"{name}.png cannot be read" in splits.left_out[0]
        assert r"caf\udce9.png cannot be read" in capsys.readouterr().err


def test_the_flag_sets_the_parameter(tmp_path: Path) -> None:
    chosen = choose_dataset("csv[train=a,test=b]", skip_bad=True)
    assert isinstance(chosen.source, CsvTable)
    assert chosen.source.skip_bad
    assert (chosen.choice.spec, chosen.choice.params["skip_bad"]) == ("csv[train=a,test=b,skip_bad=yes]", True)
    assert choose_dataset("csv[train=a,test=b]").choice.params["skip_bad"] is False


def test_images_are_decoded_side_by_side(source: CsvTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images are in work at once: each waits for the other."""
    both = threading.Barrier(2, timeout=10)

    def wait(image: ImageLocation, resolution: int) -> Images:
        if image in (tmp_path / "0.png", tmp_path / "1.png"):
            both.wait()
        return read_image(image, resolution)

    monkeypatch.setattr("benchmark.core.thread_pool.usable_cpus", lambda: 2)
    monkeypatch.setattr(files, "read_image", wait)
    assert len(source.load(8, tmp_path / "cache").train) == 7


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_stops_at_once_and_leaves_nothing(
    error: type[BaseException], source: CsvTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def slow(image: Path, resolution: int) -> Images:
        begun.append(image)
        time.sleep(0.02)
        return read_image(image, resolution)

    def interrupted(items: object, label: str, total: int) -> object:
        yield None
        raise error

    monkeypatch.setattr("benchmark.core.thread_pool.usable_cpus", lambda: 1)
    monkeypatch.setattr(files, "read_image", slow)
    monkeypatch.setattr(files, "tracked", interrupted)
    with pytest.raises(error):
        source.load(8, tmp_path / "cache")
    assert len(begun) < 3
    assert entries(tmp_path / "cache") == [tmp_path / "cache" / "content"]


def test_every_image_knows_its_file(source: CsvTable, tmp_path: Path) -> None:
    for _ in range(2):
        train = source.load(8, tmp_path / "cache").train
        assert train.origins == [tmp_path / f"{number}.png" for number in (0, 1, 2, 4, 6, 8, 9)]
        assert "fingerprint" in vars(train)  # as verified, not worked out anew at every start


def test_a_file_too_large_for_an_image_is_bad_and_not_read(source: CsvTable, tmp_path: Path) -> None:
    os.truncate(tmp_path / "4.png", (1 << 29) + 1)
    with pytest.raises(UsageError, match=r"image .*4\.png cannot be read: larger than 512 MiB"):
        CsvTable(source.train, source.test, source.val).load(8, tmp_path / "cache")
    assert len(source.load(8, tmp_path / "cache").train) == 6

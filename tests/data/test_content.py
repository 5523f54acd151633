"""The cache is keyed by what files hold: found again wherever they lie, and not by what only looks the same."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.core.errors import UsageError
from benchmark.data import content, image_files
from benchmark.data.content import Stamps, content_of
from benchmark.data.csv_table import CsvTable
from benchmark.data.image_location import ImageLocation, Member
from benchmark.data.images import BadImage
from benchmark.data.webdataset import WebDataset

MakeImages = Callable[..., None]
MakeTar = Callable[..., Path]


def table(folder: Path, skip_bad: bool = False) -> CsvTable:
    rows = "".join(f"{number}.png,number {number}\n" for number in range(4))
    path = folder / "own.csv"
    path.write_text(f"filepath,title\n{rows}")
    return CsvTable(str(path), str(path), str(path), skip_bad=skip_bad)


@pytest.fixture
def folder(tmp_path: Path, make_images: MakeImages) -> Path:
    make_images(*(f"first/{number}.png" for number in range(4)))
    return tmp_path / "first"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[ImageLocation]:
    """What has been decoded."""
    seen: list[ImageLocation] = []
    original = image_files.read_image

    def read_image(image: ImageLocation, resolution: int) -> object:
        seen.append(image)
        return original(image, resolution)

    monkeypatch.setattr(image_files, "read_image", read_image)
    return seen


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[ImageLocation]:
    """What has been read for its hash."""
    seen: list[ImageLocation] = []
    original = content._hash_of

    def hash_of(image: ImageLocation) -> str:
        seen.append(image)
        return original(image)

    monkeypatch.setattr(content, "_hash_of", hash_of)
    return seen


@pytest.mark.parametrize("how", ["moved", "copied", "touched", "linked"])
def test_a_set_that_lies_elsewhere_is_not_decoded_again(
    how: str, folder: Path, tmp_path: Path, decoded: list[ImageLocation], hashed: list[ImageLocation]
) -> None:
    before = table(folder).load(8, tmp_path / "cache")
    assert (len(decoded), len(hashed)) == (12, 12)
    other = tmp_path / "second"
    if how == "moved":
        folder.rename(other)
    elif how == "copied":
        shutil.copytree(folder, other)
    elif how == "touched":
        other = folder
        for path in folder.glob("*.png"):
            os.utime(path)
    else:
        other.symlink_to(folder)
    after = table(other).load(8, tmp_path / "cache")
    assert len(decoded) == 12
    # Through a link, the files are the same ones.
    assert len(hashed) == (12 if how == "linked" else 24)
    assert np.array_equal(before.train.images[:], after.train.images[:])
    assert after.train.origins == [other / f"{number}.png" for number in range(4)]
    table(other).load(8, tmp_path / "cache")
    assert len(hashed) == (12 if how == "linked" else 24)  # nothing is read twice


def test_a_renamed_file_is_the_same_and_another_order_is_not(folder: Path, tmp_path: Path) -> None:
    def of(*names: str) -> str:
        images = {"train": [folder / name for name in names]}
        stamps = {split: list(map(Stamps(), files)) for split, files in images.items()}
        return content_of(tmp_path / "cache", images, stamps)

    before = of("0.png", "1.png")
    assert of("1.png", "0.png") != before
    (folder / "0.png").rename(folder / "x.png")
    assert of("x.png", "1.png") == before


def test_the_hash_is_that_of_each_file(folder: Path, tmp_path: Path) -> None:
    images: dict[str, list[ImageLocation]] = {"train": [folder / "0.png", folder / "1.png"], "test": [folder / "2.png"]}
    stamps = {split: list(map(Stamps(), files)) for split, files in images.items()}
    plain = {
        split: [hashlib.sha256(path.read_bytes()).hexdigest() for path in files if isinstance(path, Path)]
        for split, files in images.items()
    }
    expected = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    assert content_of(tmp_path / "cache", images, stamps) == expected


def test_a_cache_that_cannot_be_written_is_told_before_any_image_is_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    places: dict[str, list[ImageLocation]] = {"train": [folder / "0.png"]}
    stamps = {"train": [Stamps()(folder / "0.png")]}
    (folder / "0.png").unlink()
    with pytest.raises(UsageError, match="cannot write to folder"):
        content_of(tmp_path / "cache", places, stamps)


def test_members_are_hashed_alone(tmp_path: Path, make_tar: MakeTar, decoded: list[ImageLocation]) -> None:
    """So that a set repacked into other shards is found again, and neighbours of an image do not matter."""
    images: dict[str, int | str | bytes] = {f"{n}.png": n for n in range(3)}
    captions: dict[str, int | str | bytes] = {f"{n}.txt": f"number {n}" for n in range(3)}

    def pairs(*numbers: int) -> dict[str, int | str | bytes]:
        return {name: both[name] for n in numbers for name in (f"{n}.png", f"{n}.txt")}

    both = images | captions
    make_tar("one/a.tar", pairs(0, 1, 2))
    make_tar("two/a.tar", pairs(0))
    make_tar("two/b.tar", {"1.md": "not read"} | pairs(1, 2))
    for shards in ("one/a.tar", "two/{a,b}.tar"):
        shard = str(tmp_path / shards)
        splits = WebDataset(shard, shard, shard).load(8, tmp_path / "cache")
        assert splits.train.images[:][:, 0, 0, 0].tolist() == [0, 1, 2]
        assert len(decoded) == 9


@pytest.mark.parametrize("where", ["file", "member"])
def test_a_member_ends_where_it_ends(where: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"before the bytes after")
    is_file = where == "file"
    image = path if is_file else Member(path, "0.png", offset=7, size=9)
    expected = hashlib.sha256(b"before the bytes after" if is_file else b"the bytes").hexdigest()
    assert content._hash_of(image) == expected


def test_content_that_changed_is_read_though_size_and_time_are_the_same(
    folder: Path, tmp_path: Path, decoded: list[ImageLocation]
) -> None:
    def paint(red: int) -> None:
        Image.new("RGB", (20, 16), (red, 100, 200)).save(folder / "0.png", format="BMP")
        os.utime(folder / "0.png", ns=(1, 1))

    paint(5)
    table(folder).load(8, tmp_path / "cache")
    paint(99)
    assert (table(folder).load(8, tmp_path / "cache").train.images[0][0] == 99).all()
    paint(5)  # what it was is still in the cache
    assert (table(folder).load(8, tmp_path / "cache").train.images[0][0] == 5).all()
    assert len(decoded) == 24


@pytest.mark.parametrize("damage", ["", "not a hash", "0" * 63, b"\xff" * 64])
def test_a_damaged_hash_is_worked_out_anew(
    damage: str | bytes, folder: Path, tmp_path: Path, decoded: list[ImageLocation]
) -> None:
    table(folder).load(8, tmp_path / "cache")
    (kept,) = (tmp_path / "cache" / "content").iterdir()
    good = kept.read_bytes()
    kept.write_bytes(damage.encode() if isinstance(damage, str) else damage)
    table(folder).load(8, tmp_path / "cache")
    assert kept.read_bytes() == good
    assert len(decoded) == 12


@pytest.mark.parametrize("step", ["_hash_of", "read_image"])
def test_an_image_that_changes_meanwhile_is_told(
    step: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the entry would hold other images than its key says, for good."""
    module = content if step == "_hash_of" else image_files
    original = getattr(module, step)

    def change(image: ImageLocation, *rest: int) -> object:
        result = original(image, *rest)
        if image == folder / "2.png":
            Image.new("RGB", (20, 16), (77, 100, 200)).save(image)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(module, step, change)
        with pytest.raises(UsageError, match=r"image .*2\.png was changed while the data set was being read"):
            table(folder).load(8, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("csv-*"))
    assert table(folder).load(8, tmp_path / "cache").train.images[:][:, 0, 0, 0].tolist() == [0, 1, 77, 3]


def test_bad_images_are_listed_by_the_name_they_have_now(
    folder: Path, tmp_path: Path, decoded: list[ImageLocation], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "3.png").write_text("text")
    table(folder, skip_bad=True).load(8, tmp_path / "cache")
    folder.rename(tmp_path / "second")
    capsys.readouterr()
    splits = table(tmp_path / "second", skip_bad=True).load(8, tmp_path / "cache")
    assert len(decoded) == 12
    reason = "not an image in one of the formats JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM"
    assert splits.left_out == (f"image {tmp_path / 'second' / '3.png'} cannot be read: {reason}",) * 3
    assert str(folder) not in capsys.readouterr().err


def test_an_image_that_goes_meanwhile_is_told(folder: Path, tmp_path: Path) -> None:
    stamp = Stamps()(folder / "0.png")
    (folder / "0.png").unlink()
    with pytest.raises(UsageError, match=r"0\.png cannot be read: No such file"):
        content_of(tmp_path, {"train": [folder / "0.png"]}, {"train": [stamp]})
    with pytest.raises(BadImage, match=r"0\.png does not exist"):
        Stamps()(folder / "0.png")

"""What ``protect`` refuses, in one line and before any work: bad photos, bad names, folders that it cannot write."""

import io
import os
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from attacks.em_wordwise import WordwiseEm
from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.data import CaptionDataset
from tests.export.photo_files import ARTIST, many_photos, picture
from tests.export.protecting import protect


@pytest.mark.parametrize(
    ("attack", "said"),
    [("mem3", "mem3 makes noise that does not repeat"), ("clean", "clean adds no noise; take em-wordwise")],
)
def test_attacks_without_noise_that_repeats_are_refused(
    attack: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many_photos(tmp_path / "photos", 2)
    assert protect(tmp_path / "photos", tmp_path / "out", "--attack", attack) == 2
    assert f"error: {said}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda photos: (photos / "001.txt").unlink(),
            "error: image {photos}/001.jpg has no caption: no {photos}/001.txt, and no table such as metadata.csv in "
            "{photos}; --skip-bad leaves such photos out",
        ),
        (
            lambda photos: (photos / "IMG.HEIC").touch(),
            "image {photos}/IMG.HEIC is in a format that cannot be read here",
        ),
        (lambda photos: (photos / "001.jpg").write_bytes(b"no picture"), "image {photos}/001.jpg cannot be read"),
        (lambda photos: shutil.copy(photos / "001.jpg", photos / "001.png"), "would both become 001.jpg"),
        (
            lambda photos: shutil.copy(photos / "001.jpg", photos / "forgotten.jfif"),
            "image {photos}/forgotten.jfif has no caption",
        ),
        (lambda photos: [file.unlink() for file in photos.iterdir()], "folder {photos} holds no photos"),
        (lambda photos: (photos / "captions.csv").write_text("a,b\nc,d\n"), "needs the columns"),
        (lambda photos: (photos / "captions.csv").write_text("image,caption\n/etc/x.jpg,a\n"), "is not inside"),
    ],
)
def test_what_cannot_be_protected_is_one_line(
    spoil: object, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    many_photos(photos, 4)
    assert callable(spoil)
    spoil(photos)
    if "inside" in message:
        (tmp_path / "x.jpg").write_bytes((photos / "001.jpg").read_bytes())
        table = "".join(f"{number:03}.jpg,a photo\n" for number in range(4))
        (photos / "captions.csv").write_text(f"image,caption\n{table}{tmp_path}/x.jpg,a\n")
    assert protect(photos, tmp_path / "out") == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message.format(photos=photos) in error[-1]
    assert not (tmp_path / "out").exists()


def test_what_an_attack_refuses_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(self: WordwiseEm, train: CaptionDataset) -> None:
        raise UsageError(f"{len(train)} photos do not suit it")

    monkeypatch.setattr(WordwiseEm, "check", refused)
    many_photos(tmp_path / "photos", 4)
    assert protect(tmp_path / "photos", tmp_path / "out") == 2
    assert "error: 4 photos do not suit it\n" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "poisons").exists()


def test_members_of_one_name_in_two_archives_are_not_written_over_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = io.BytesIO()
    picture(40, 30).save(content, "JPEG")
    for name in ("train", "test"):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            for number in range(3):
                for suffix, data in (("jpg", content.getvalue()), ("txt", b"a cat")):
                    member = tarfile.TarInfo(f"{number:06}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    spec = f"webdataset[train={tmp_path}/train.tar,test={tmp_path}/test.tar,val_fraction=0.4]"
    assert protect(Path(spec), tmp_path / "out") == 2
    assert re.search(r"test\.tar.* would both become 000000\.jpg; rename one", capsys.readouterr().err)


@pytest.mark.parametrize("out", [".", "x/..", "link"])
def test_a_folder_without_a_name_of_its_own_is_refused_before_any_work(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    many_photos(tmp_path / "photos", 2)
    for name in ("empty", "x"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty" if out == "." else tmp_path)
    assert protect(tmp_path / "photos", Path(out)) == 2
    assert re.fullmatch(r"error: .*cannot write to folder .*; name a new folder\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("captions.csv/x.jpg", "captions.csv/x.jpg would become captions.csv/x.jpg, but a folder or file"),
        (os.fsdecode(b"caf\xe9.png"), "the name of a photo is no text in UTF-8: 'caf\\udce9.png'"),
        ("back\\slash.jpg", "back\\slash.jpg has a backslash, which separates folders on other systems"),
    ],
)
def test_names_that_cannot_be_written_are_refused_before_the_work(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    many_photos(photos, 4)
    photo = photos / name
    photo.parent.mkdir(exist_ok=True)
    picture(80, 60).save(photo)
    photo.with_suffix(".txt").write_text("a photo\n")
    assert protect(photos, tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("poisons/*"))


def test_what_cannot_be_written_down_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name of a photo that is left out, and a caption."""
    photos = tmp_path / "photos"
    many_photos(photos, 4)
    bad = photos / os.fsdecode(b"caf\xe9.jpg")
    bad.write_bytes(b"no picture")
    bad.with_suffix(".txt").write_text("a photo\n")
    assert protect(photos, tmp_path / "out", "--skip-bad") == 2
    assert "error: the name of a photo is no text in UTF-8" in capsys.readouterr().err
    bad.unlink()
    (photos / "002.txt").write_text("&#160;â€™ Ã\xa0a\n", encoding="utf-8")
    assert protect(photos, tmp_path / "out", "--skip-bad") == 2
    said = r"error: photo 002.jpg: the caption '&#160;â€™ Ã\xa0a' cannot be written on one line"
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("poisons/*"))


def test_a_photo_is_not_at_once_a_folder_of_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many_photos(tmp_path / "photos", 3)
    many_photos(tmp_path / "photos/a.jpg", 1)
    picture(80, 60).save(tmp_path / "photos/a.webp")
    (tmp_path / "photos/a.txt").write_text("a photo\n")
    assert protect(tmp_path / "photos", tmp_path / "out") == 2
    assert "a.webp would become a.jpg, but a folder or file of that name is needed" in capsys.readouterr().err


def test_what_no_jpeg_can_hold_is_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    many_photos(photos, 4)
    exif = picture(1, 1).getexif()
    exif[ARTIST] = "A" * 70_000
    picture(80, 60).save(photos / "long.png", exif=exif)
    (photos / "long.txt").write_text("a photo\n")
    assert protect(photos, tmp_path / "out") == 2
    assert "long.png does not fit into a JPEG, which has 65,533 bytes for EXIF data" in capsys.readouterr().err
    assert not list(tmp_path.glob("poisons/*"))
    assert protect(photos, tmp_path / "out", "--format", "png") == 0


def test_a_profile_that_no_png_can_hold_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    many_photos(photos, 4)
    picture(80, 60).save(photos / "001.jpg", icc_profile=b"much" * 2**19)
    assert protect(photos, tmp_path / "out", "--format", "png") == 2
    said = "001.jpg does not fit into a PNG, whose colour profile may have 1 MiB; leave it out, or write JPEG"
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("poisons/*"))
    assert protect(photos, tmp_path / "out") == 0
    assert main(["verify", str(tmp_path / "out"), "--against", str(photos)]) == 0


@pytest.mark.parametrize("names", [("É.JPG", "É.jpg"), ("E\u0301.jpg", "\u00c9.jpg")], ids=["case", "accents"])
def test_names_that_some_file_systems_take_for_one_are_not_written_over_each_other(
    names: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many_photos(tmp_path / "photos", 3)
    for number, name in enumerate(names):
        picture(80, 60, number).save(tmp_path / "photos" / name)
        (tmp_path / "photos" / name).with_suffix(".txt").write_text("a photo\n")
    assert protect(tmp_path / "photos", tmp_path / "out") == 2
    said = f"{names[0]} and {names[1]} would become names that some systems take for one; rename one of them"
    assert said in capsys.readouterr().err

"""The command ``protect``: every photo, within ε, in its own colours, under its name, whatever is killed."""

import csv
import io
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from attacks import Poison
from benchmark.cli.main import main
from benchmark.data import content
from benchmark.data.csv_table import read_table
from benchmark.data.images import read_image, read_upright
from benchmark.export.photo import srgb_profile
from tests.export.photo_files import ARTIST, CAMERA, COPYRIGHT, ORIENTATION, PROFILE, many_photos, picture, with_table
from tests.export.protecting import QUICK, protect, rows_of
from tests.memory import AnonymousPeak, linux_only
from tests.small import noise_of

EPS = 8


def pixels(file: Path) -> np.ndarray:
    """By another way than the command's: Pillow's, upright and with no regard to profiles."""
    with Image.open(file) as image:
        return np.asarray(ImageOps.exif_transpose(image)).astype(int)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Seven photos, and the same protected as PNG."""
    place = tmp_path_factory.mktemp("seven")
    with_table(place / "photos")
    assert protect(place / "photos", place / "out", "--format", "png") == 0
    return place / "photos", place / "out"


def test_every_photo_is_there_under_its_name_with_its_caption(folders: tuple[Path, Path]) -> None:
    photos, out = folders
    files = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    assert files == {
        *("turned.png", "holiday/beach.png", "holiday/day 2/grey.png", "seen through.png", "few colours.png"),
        *("print.png", "wide.png", "captions.csv", "manifest.json"),
    }
    before = dict(csv.reader(io.StringIO((photos / "captions.csv").read_text(encoding="utf-8"))))
    del before["filepath"]
    after = {name.removesuffix(".png"): caption for name, caption in rows_of(out)}
    assert after == {name.rpartition(".")[0]: caption for name, caption in before.items()}
    assert not list(out.parent.glob("out.unfinished*"))


def test_pixels_are_the_originals_in_their_own_colours_within_the_bound(folders: tuple[Path, Path]) -> None:
    photos, out = folders
    for name in ("turned.JPG", "holiday/beach.png", "holiday/day 2/grey.jpeg", "wide.webp", "seen through.png"):
        before, after = pixels(photos / name), pixels((out / name).with_suffix(".png"))
        assert before.shape == after.shape, name
        change = after - before
        assert 1 <= np.abs(change).max() <= EPS, name
        # Everywhere, also outside the central square, where the photo has one.
        for part in np.array_split(change[..., :3], 3, axis=int(before.shape[1] > before.shape[0])):
            assert np.abs(part).mean() > 1.5, name
    assert (pixels(out / "seen through.png")[..., 3] == pixels(photos / "seen through.png")[..., 3]).all()
    assert Image.open(out / "holiday/day 2/grey.png").mode == "L"
    assert "icc_profile" not in Image.open(out / "print.png").info  # it was of CMYK, and the pixels are RGB
    for name in ("few colours.gif", "print.tif"):
        change = pixels((out / name).with_suffix(".png")) - np.asarray(read_upright(photos / name)).astype(int)
        assert 1 <= np.abs(change).max() <= EPS, name


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_descriptions_and_profiles_stay_and_the_photo_is_upright(
    kind: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    photos, out = folders
    if kind == "jpeg":
        out = tmp_path / "jpeg"
        assert protect(photos, out) == 0
    with Image.open(out / ("turned.png" if kind == "png" else "turned.JPG")) as turned:
        assert turned.format == kind.upper()
        assert turned.size == (100, 150)
        exif = turned.getexif()
        assert exif.get(ORIENTATION, 1) == 1
        # Pillow reads UTF-8 as if it were Latin-1.
        assert (exif[ARTIST], exif[COPYRIGHT].encode("latin-1").decode()) == ("Ann", "© Ann, all rights reserved")
        assert exif.get_ifd(CAMERA)[0x9003] == "2024:05:01 10:00:00"
        assert turned.info["icc_profile"] == PROFILE
    with Image.open(out / f"holiday/beach.{'png' if kind == 'png' else 'jpg'}") as beach:
        assert beach.info["icc_profile"] == PROFILE


def test_jpegs_have_the_quality_asked_for_and_full_colour(folders: tuple[Path, Path], tmp_path: Path) -> None:
    photos, _ = folders
    assert protect(photos, tmp_path / "q95") == 0
    assert protect(photos, tmp_path / "q50", "--quality", "50") == 0
    sizes = {}
    for name in ("q95", "q50"):
        with Image.open(tmp_path / name / "turned.JPG") as image:
            assert isinstance(image, JpegImageFile)
            assert [(component[1], component[2]) for component in image.layer] == [(1, 1)] * 3
        sizes[name] = (tmp_path / name / "turned.JPG").stat().st_size
    assert sizes["q50"] < sizes["q95"]
    change = pixels(tmp_path / "q95/turned.JPG") - pixels(photos / "turned.JPG")
    assert np.abs(change).mean() > 2
    # What is transparent becomes white, as viewers show it.
    assert pixels(tmp_path / "q95/seen through.jpg")[:3, :50].min() > 200
    assert protect(photos, tmp_path / "lossless", "--format", "png", "--quality", "50") == 2
    assert not (tmp_path / "lossless").exists()


def test_a_preview_inside_the_exif_data_is_not_published(tmp_path: Path) -> None:
    many_photos(tmp_path / "photos", 2)
    # A hand-made EXIF block: one tag, then a second list that points at a JPEG, as cameras store previews.
    preview = io.BytesIO()
    picture(16, 16).save(preview, "JPEG")
    start = 8 + 2 + 12 + 4 + 2 + 24 + 4
    block = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x3b\0\x02\0\0\0\x04Ann\0" + (8 + 2 + 12 + 4).to_bytes(4, "big")
    block += b"\0\x02" + b"\x02\x01\0\x04\0\0\0\x01" + start.to_bytes(4, "big")
    block += b"\x02\x02\0\x04\0\0\0\x01" + len(preview.getvalue()).to_bytes(4, "big") + b"\0\0\0\0" + preview.getvalue()
    picture(80, 60).save(tmp_path / "photos/000.jpg", exif=b"Exif\0\0" + block)
    assert preview.getvalue() in (tmp_path / "photos/000.jpg").read_bytes()
    assert protect(tmp_path / "photos", tmp_path / "out") == 0
    content = (tmp_path / "out/000.jpg").read_bytes()
    assert b"Ann" in content
    assert preview.getvalue() not in content
    assert preview.getvalue()[-60:-20] not in content


def test_the_cameras_own_notes_are_not_published(tmp_path: Path) -> None:
    many_photos(tmp_path / "photos", 2)
    preview = io.BytesIO()
    picture(16, 16).save(preview, "JPEG")
    exif = Image.Exif()
    exif.get_ifd(34665).update({37500: b"Maker\0" + preview.getvalue(), 33437: 2.8})
    picture(80, 60).save(tmp_path / "photos/000.jpg", exif=exif)
    assert preview.getvalue() in (tmp_path / "photos/000.jpg").read_bytes()
    assert protect(tmp_path / "photos", tmp_path / "out") == 0
    assert preview.getvalue()[-60:-20] not in (tmp_path / "out/000.jpg").read_bytes()
    with Image.open(tmp_path / "out/000.jpg") as image:
        assert dict(image.getexif().get_ifd(34665)) == {33437: 2.8}


def test_what_photoshop_keeps_inside_the_exif_data_is_not_published(tmp_path: Path) -> None:
    many_photos(tmp_path / "photos", 2)
    exif = Image.Exif()
    exif.update({700: b"<x:xmpmeta/>", 34377: b"8BIM preview", ARTIST: "Ann"})
    picture(80, 60).save(tmp_path / "photos/000.jpg", exif=exif)
    assert b"8BIM preview" in (tmp_path / "photos/000.jpg").read_bytes()
    assert protect(tmp_path / "photos", tmp_path / "out") == 0
    with Image.open(tmp_path / "out/000.jpg") as image:
        assert image.getexif().keys() - {CAMERA} == {ARTIST}


def test_forty_photos_need_no_other_batch_and_their_number_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many_photos(tmp_path / "photos", 40)
    assert protect(tmp_path / "photos", tmp_path / "out") == 0
    assert "40 photos: how strong noise is that was crafted on fewer than" in capsys.readouterr().err
    assert len(rows_of(tmp_path / "out")) == 40
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["attack"]["params"]["batch_size"] == 40
    assert {photo["source"] for photo in manifest["photos"]} == {f"{number:03}.jpg" for number in range(40)}


def test_two_photos_suffice_and_one_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many_photos(tmp_path / "two", 2)
    many_photos(tmp_path / "one", 1)
    assert protect(tmp_path / "two", tmp_path / "out") == 0
    assert "smaller than" not in capsys.readouterr().err
    for number in range(2):
        change = pixels(tmp_path / f"out/{number:03}.jpg") - pixels(tmp_path / f"two/{number:03}.jpg")
        assert np.abs(change).mean() > 2
    assert protect(tmp_path / "one", tmp_path / "out of one") == 2
    assert "holds one photo" in capsys.readouterr().err


def test_photos_smaller_than_the_models_input_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many_photos(tmp_path / "photos", 3)
    for name, size in {"000.jpg": (48, 31), "001.jpg": (32, 32)}.items():
        picture(*size).save(tmp_path / "photos" / name)
    assert protect(tmp_path / "photos", tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "1 of 3 photos smaller than the 32 px that the model sees: less of the noise is left in such\n" in said


def test_files_with_several_pictures_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many_photos(tmp_path / "photos", 4)
    others = [picture(80, 60, 8), picture(80, 60, 9)]
    for name in ("000.gif", "001.tif", "002.webp"):
        photo = (tmp_path / "photos" / name).with_suffix(".jpg")
        Image.open(photo).save(photo.with_name(name), save_all=True, append_images=others)
        photo.unlink()
    assert protect(tmp_path / "photos", tmp_path / "out") == 0
    assert "3 files with several pictures, of which the first alone is protected\n" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "out"), "--against", str(tmp_path / "photos")]) == 0


def test_a_table_without_a_photo_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "captions.jsonl").touch()
    assert protect(tmp_path / "captions.jsonl", tmp_path / "out") == 2
    assert "captions.jsonl holds no photo; noise is crafted on at least 2" in capsys.readouterr().err


def test_a_trigger_is_written_into_the_captions(tmp_path: Path) -> None:
    many_photos(tmp_path / "photos", 6)
    attack = "mem-wordwise[restarts=1,steps=2,hotflip_rounds=1,surrogate_steps=1]"
    assert protect(tmp_path / "photos", tmp_path / "out", "--attack", attack) == 0
    for number, (name, caption) in enumerate(rows_of(tmp_path / "out")):
        words = caption.split()
        assert name == f"{number:03}.jpg"
        assert words[3:] == f"photo {number % 5} of {number}".split()


@pytest.mark.parametrize("table", ["captions.tsv", "captions.txt"])
def test_tables_with_file_names_may_have_any_of_the_suffixes(table: str, tmp_path: Path) -> None:
    many_photos(tmp_path / "photos", 2)
    for text in (tmp_path / "photos").glob("*.txt"):
        text.unlink()
    (tmp_path / "photos" / table).write_text("file_name\ttext\n000.jpg\tone\n001.jpg\ttwo\n")
    assert protect(tmp_path / "photos", tmp_path / "out") == 0
    assert [caption for _, caption in rows_of(tmp_path / "out")] == ["one", "two"]


def test_copies_may_lie_among_the_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    many_photos(photos, 4)
    (photos / "out.unfinished-0123").mkdir()  # of a run that was killed
    shutil.copy(photos / "000.jpg", photos / "out.unfinished-0123")
    for _ in range(2):
        assert protect(photos, photos / "out") == 0
    said = capsys.readouterr().err
    assert f"unfinished, of other photos or other flags: {photos}/out.unfinished-0123\n" in said
    assert "already whole by names and sizes; verify compares the content" in said
    whole = (photos / "out/001.jpg").read_bytes()
    (photos / "out/001.jpg").write_bytes(b"")
    assert protect(photos, photos / "out") == 2
    assert "was whole, but 001.jpg is missing or changed; name a new folder" in capsys.readouterr().err
    (photos / "out/001.jpg").write_bytes(whole)
    assert main(["verify", str(photos / "out"), "--against", str(photos)]) == 0
    assert len(rows_of(photos / "out")) == 4


def test_names_may_be_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    many_photos(tmp_path / "photos", 4)
    name = "é" * 125 + ".jpg"  # 254 bytes
    shutil.copy(tmp_path / "photos/000.jpg", tmp_path / "photos" / name)
    (tmp_path / "photos" / name).with_suffix(".txt").write_text("a photo\n")
    assert protect(tmp_path / "photos", tmp_path / "out") == 0
    assert (tmp_path / "out" / name).is_file()


def test_bad_photos_are_left_out_and_listed_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many_photos(tmp_path / "photos", 5)
    (tmp_path / "photos/001.txt").unlink()
    (tmp_path / "photos/003.jpg").write_bytes(b"no picture")
    assert protect(tmp_path / "photos", tmp_path / "out", "--skip-bad") == 0
    assert [name for name, _ in rows_of(tmp_path / "out")] == ["000.jpg", "002.jpg", "004.jpg"]
    assert "2 of 5 images left out, by skip_bad" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "out/manifest.json").read_text())["left_out"]) == 2
    (tmp_path / "photos/later.jpg").touch()
    assert protect(tmp_path / "photos", tmp_path / "out", "--skip-bad") == 0
    assert main(["verify", str(tmp_path / "out"), "--against", str(tmp_path / "photos")]) == 0
    assert "– 3 of 6 photos of" in capsys.readouterr().out


def test_a_bad_photo_outside_the_folder_is_listed_by_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many_photos(tmp_path / "photos", 3)
    table = "".join(f"{number:03}.jpg,a photo of {number}\n" for number in range(3))
    (tmp_path / "photos/captions.csv").write_text(f"filepath,title\n{table}../gone/b.jpg,a cat\n")
    assert protect(tmp_path / "photos", tmp_path / "out", "--skip-bad") == 0
    (line,) = json.loads((tmp_path / "out/manifest.json").read_text())["left_out"]
    assert line.endswith("gone/b.jpg does not exist")
    assert main(["verify", str(tmp_path / "out"), "--against", str(tmp_path / "photos")]) == 0
    assert "– 1 of 4 photos of" in capsys.readouterr().out


def test_odd_names_and_captions_are_read_back_as_they_were(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    many_photos(photos, 2)
    (photos / "000.txt").write_text('["a dog", "a cat"]\n')
    for suffix in (".jpg", ".txt"):
        (photos / f"001{suffix}").rename(photos / f" lead{suffix}")
    assert protect(photos, tmp_path / "out") == 0
    assert main(["verify", str(tmp_path / "out"), "--against", str(photos)]) == 0
    read = {file.image: file.captions for file in read_table(tmp_path / "out/captions.csv")}
    assert read[tmp_path / "out/000.jpg"] == ['["a dog", "a cat"]']
    assert (tmp_path / "out/ lead.jpg").is_file()
    assert tmp_path / "out/ lead.jpg" in read


def test_all_splits_of_a_data_set_are_protected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many_photos(tmp_path / "photos", 5)
    for name, numbers in {"a": (0, 1, 2), "b": (2, 3, 4)}.items():
        table = "".join(f"photos/{number:03}.jpg,in {name}\nphotos/{number:03}.jpg,in both\n" for number in numbers)
        (tmp_path / f"{name}.csv").write_text(f"filepath,title\n{table}")
    assert protect(f"csv[train={tmp_path}/a.csv,test={tmp_path}/b.csv]", tmp_path / "out") == 0
    rows = rows_of(tmp_path / "out")
    assert [" ".join(row) for row in rows[:4]] == ["000.jpg in a", "000.jpg in both", "001.jpg in a", "001.jpg in both"]
    assert [" ".join(row) for row in rows[4:7]] == ["002.jpg in a", "002.jpg in both", "002.jpg in b"]
    assert [name for name, _ in rows[7:]] == ["003.jpg", "003.jpg", "004.jpg", "004.jpg"]
    assert protect("scenes[train=2,val=2,test=2]", tmp_path / "scenes") == 2
    assert "has no photo files" in capsys.readouterr().err


_KILLED = """
import os, signal, sys
from benchmark.core import progress
from benchmark.cli.main import main

class Deadly(progress._Lines):
    def _show(self):
        done[self._label] = done.get(self._label, 0) + 1
        if self._label.startswith(sys.argv[1]) and done[self._label] == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
done = {}
progress._Lines = Deadly
sys.exit(main(sys.argv[3:]))
"""


def of_nine(place: Path) -> list[str]:
    """The command for nine photos, which it makes there."""
    many_photos(place / "photos", 9)
    words = ["protect", str(place / "photos"), "--preset", "micro", *QUICK, "--poisons", str(place / "poisons")]
    return [*words, "--cache", str(place / "cache"), "--precision", "fp32"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What comes of it if nobody kills it."""
    place = tmp_path_factory.mktemp("nine")
    assert main([*of_nine(place), "--out", str(place / "whole")]) == 0
    return place / "whole"


@pytest.mark.parametrize(("stage", "step"), [("crafting", 3), ("writing photos", 4), ("reading back", 1)])
def test_a_killed_command_goes_on(stage: str, step: int, whole: Path, tmp_path: Path) -> None:
    arguments = of_nine(tmp_path)
    killed = [sys.executable, "-c", _KILLED, stage, str(step), *arguments, "--out", str(tmp_path / "out")]
    assert subprocess.run(killed, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    (unfinished,) = tmp_path.glob("out.unfinished-*")
    there = {file: file.stat().st_mtime_ns for file in unfinished.rglob("*.jpg") if not file.name.startswith(".")}
    assert all(pixels(file).shape == (60, 80, 3) for file in there)
    assert bool(there) == (stage != "crafting")
    # As a kill in the midst of writing leaves it.
    (unfinished / ".008.jpg.abc.partial").write_bytes(b"half")
    if stage == "crafting":
        assert list((tmp_path / "poisons").glob(".*.checkpoint"))
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert not unfinished.exists()
    kept = {file: (tmp_path / "out" / file.name).stat().st_mtime_ns for file in there}
    assert kept == there
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {file.name for file in whole.iterdir()}
    for name in names - {"manifest.json"}:
        assert (tmp_path / "out" / name).read_bytes() == (whole / name).read_bytes(), name


def test_the_same_command_again_changes_nothing_and_another_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many_photos(tmp_path / "photos", 3)
    assert protect(tmp_path / "photos", tmp_path / "out") == 0
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    assert protect(tmp_path / "photos", tmp_path / "out") == 0
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()} == before
    assert protect(tmp_path / "photos", tmp_path / "out", "--quality", "80") == 2
    assert "protected otherwise" in capsys.readouterr().err
    picture(80, 60, 77).save(tmp_path / "photos/000.jpg")
    assert protect(tmp_path / "photos", tmp_path / "out") == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    assert protect(tmp_path / "photos", tmp_path / "mine") == 2
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["file"]


def test_a_damaged_photo_that_a_killed_command_has_left_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    many_photos(photos, 3)
    assert protect(photos, out) == 0
    unfinished = tmp_path / f"out.unfinished-{json.loads((out / 'manifest.json').read_text())['identity'][:8]}"
    out.rename(unfinished)
    (unfinished / "001.jpg").write_bytes(b"damaged")
    assert protect(photos, out) == 2
    assert re.search(r"/001\.jpg cannot be read: .*; remove it and run the command again\n", capsys.readouterr().err)
    (unfinished / "001.jpg").unlink()
    assert protect(photos, out) == 0
    assert main(["verify", str(out), "--against", str(photos)]) == 0


def test_photos_are_read_once_to_be_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_photos(tmp_path / "photos", 3)
    hash_of = Mock(wraps=content._hash_of)
    monkeypatch.setattr(content, "_hash_of", hash_of)
    assert protect(tmp_path / "photos", tmp_path / "out") == 0
    assert hash_of.call_count == 3


@linux_only
@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_photos(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    picture(1500, 1000).save(photos / "000.jpg")
    (photos / "000.txt").write_text("one of many photos")
    peaks = []
    for count in (6, 66):
        for number in range(count):
            shutil.copy(photos / "000.jpg", photos / f"{number:03}.jpg") if number else None
            shutil.copy(photos / "000.txt", photos / f"{number:03}.txt") if number else None
        with AnonymousPeak() as memory:
            assert protect(photos, tmp_path / f"out{count}") == 0
        peaks.append(memory.peak - memory.before)
    # 60 photos more would be 270 MB of pixels. Allocators keep some tens of MB, now more and now less.
    assert peaks[1] < peaks[0] + 100


def test_the_profile_of_what_was_cmyk_is_srgb_and_the_same_at_any_time() -> None:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
    assert "sRGB" in (ImageCms.getProfileDescription(profile) + ImageCms.getProfileName(profile))
    assert profile.profile.creation_date is not None
    assert profile.profile.creation_date.year == 2000


def test_a_photo_in_lab_becomes_srgb_without_the_profile_of_lab(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    many_photos(photos, 2)
    (photos / "001.jpg").unlink()
    picture(80, 60).convert("LAB").save(photos / "001.tif", icc_profile=PROFILE)
    assert protect(photos, out, "--format", "png") == 0
    assert np.abs(pixels(out / "000.png") - pixels(out / "001.png")).mean() < 2 * EPS
    assert "icc_profile" not in Image.open(out / "001.png").info
    assert main(["verify", str(out), "--against", str(photos)]) == 0
    assert "✗" not in capsys.readouterr().out


def test_every_photo_carries_its_own_noise(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number, text in enumerate(("a red boat", "red grass", "a grey boat", "grey grass")):
        picture(80, 60, number).save(photos / f"{number}.png")
        (photos / f"{number}.txt").write_text(text)
    assert protect(photos, out, "--format", "png") == 0
    (file,) = (tmp_path / "poisons").glob("*.safetensors")
    noise = noise_of(Poison.load(file)).astype(float)
    side, names = noise.shape[-1], [f"{number}.png" for number in range(4)]
    seen = np.array([read_image(out / name, side).astype(float) - read_image(photos / name, side) for name in names])
    assert np.einsum("ichw,jchw->ij", seen, noise).argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_photos_that_were_renamed_since_are_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    many_photos(photos, 3)
    assert protect(photos, out) == 0
    for suffix in ("jpg", "txt"):
        (photos / f"002.{suffix}").rename(photos / f"003.{suffix}")
    assert protect(photos, out) == 2
    assert "holds other photos, or these protected otherwise" in capsys.readouterr().err

"""Noise on original images: in the right place, within its bound, and honest about what is left of it."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from benchmark.cli.main import main
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS
from benchmark.data.images import read_image
from benchmark.export.full_size import enlarge
from benchmark.export.images import decode_png, encode_png
from benchmark.export.photo import Photo
from tests.export.exports import make_poison


def test_twice_as_large_a_square_takes_each_noise_value_four_times() -> None:
    image = np.full((3, 8, 8), 100, np.uint8)
    noise = np.zeros((3, 4, 4), np.int8)
    noise[1] = 4
    noise[2, :, 2:] = 8
    change = enlarge(image, noise, 8).astype(int) - 100
    assert (change[0] == 0).all()
    assert (change[1] == 4).all()
    # Bilinear, halves of pixels apart: 0, 0, 0, a quarter, three quarters, all.
    assert change[2, 3].tolist() == [0, 0, 0, 2, 6, 8, 8, 8]


@pytest.mark.parametrize(("height", "width"), [(1, 4), (4, 1), (1, 8), (16, 1), (1, 1)])
def test_an_image_a_pixel_high_changes_where_the_victim_looks(height: int, width: int) -> None:
    image = np.full((3, height, width), 128, np.uint8)
    changed = np.argwhere((enlarge(image, np.full((3, 4, 4), 5, np.int8), 5) != image)[0])
    assert len(changed) == 1
    assert abs(changed[0] - [(height - 1) / 2, (width - 1) / 2]).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(8, 24), (24, 8), (9, 30), (5, 7), (4, 4), (41, 13)])
def test_only_the_square_that_the_victim_sees_changes(height: int, width: int) -> None:
    image = np.full((3, height, width), 128, np.uint8)
    changed = enlarge(image, np.full((3, 4, 4), 5, np.int8), 5) != image
    rows, columns = np.flatnonzero(changed[0].any(axis=1)), np.flatnonzero(changed[0].any(axis=0))
    shorter = min(height, width)
    # In the middle and as wide as high, to a pixel of the reader's own rounding (a quarter of the shorter side).
    for indices, length in ((rows, height), (columns, width)):
        assert abs(len(indices) - shorter) <= 1 + shorter / 4
        assert abs((indices[0] + indices[-1] + 1) / 2 - length / 2) <= 0.5 + shorter / 8
    assert changed[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_the_bound_and_the_range_of_pixels_hold() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 50, 70), np.uint8)
    noise = rng.choice(np.array([-8, 8], np.int8), (3, 16, 16))
    change = enlarge(image, noise, 8).astype(int) - image
    assert np.abs(change).max() <= 8
    assert (change > 0).any()
    assert (change < 0).any()
    black = enlarge(np.zeros((3, 50, 70), np.uint8), noise, 8)
    assert black.max() <= 8


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """Photos of several sizes: smooth, upright or lying, one turned by its camera."""
    rng = np.random.default_rng(1)
    rows = []
    for number, (height, width) in enumerate(
        [(128, 150), (200, 96), (64, 64), (100, 100), (96, 128), (70, 90), (80, 80)]
    ):
        small = Image.fromarray(rng.integers(30, 220, (6, 6, 3), np.uint8))
        photo = small.resize((width, height), Image.Resampling.BICUBIC)
        exif = photo.getexif()
        if number == 4:
            exif[0x0112] = 6  # lies on its side
        photo.save(tmp_path / f"{number}.png", exif=exif, icc_profile=PROFILE if number in (3, 5) else None)
        rows += [f"{number}.png,a photo of number {number}\n", f"{number}.png,another of {number}\n"]
    for name, split_rows in {"train": rows[:8] + rows[8:10], "val": rows[10:12], "test": rows[12:]}.items():
        (tmp_path / f"{name}.csv").write_text("filepath,title\n" + "".join(split_rows))
    return f"csv[{','.join(f'{name}={tmp_path}/{name}.csv' for name in ('train', 'val', 'test'))}]"


def test_a_profile_that_pillow_would_not_read_back_is_left_out() -> None:
    image = np.full((3, 4, 5), 7, np.uint8)
    assert (decode_png(encode_png(image, b"much" * 2**19), None) == image).all()
    picture = Photo(image.transpose(1, 2, 0), None, b"much" * 2**19, b"")
    assert Image.open(io.BytesIO(picture.encode("png", 95))).convert("RGB").size == (5, 4)


@pytest.mark.parametrize("per_row", [False, True], ids=["per image", "per row"])
def test_original_sizes_are_exported_and_checked(
    dataset: str, per_row: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = DATASETS.build(parse_spec(dataset)).load(64, tmp_path / "cache").train
    poison = make_poison(train, per_row, eps=8)
    poison.save(tmp_path / "p.safetensors")
    out, cache = tmp_path / "out", ["--cache", str(tmp_path / "cache")]
    attack, options = f"poison[file={tmp_path}/p.safetensors]", ["--splits", "all", "--keep-resolution"]
    command = ["export", "--attack", attack, "--dataset", dataset, "--out", str(out), "--format", "folder", *options]
    assert main([*command, "--device", "cpu", *cache]) == 0
    assert "of the noise is left)" in capsys.readouterr().err
    count = len(train.pairs) if per_row else len(train)
    paths = sorted((out / "train").glob("*.png"))
    assert len(paths) == count
    before, after = [], []
    clean = train.by_row() if per_row else train
    assert clean.origins is not None
    protected = poison.protect(train)
    for number, path in enumerate(paths):
        origin = clean.origins[number]
        assert isinstance(origin, Path)
        with Image.open(origin) as raw:
            size = raw.size[::-1] if origin.name == "4.png" else raw.size
        with Image.open(path) as image:
            assert image.size == size
            assert image.info.get("icc_profile") == (PROFILE if origin.name == "3.png" else None)
        before.append(np.abs(protected.images[number].astype(int) - clean.images[number]).mean())
        after.append(np.abs(read_image(path, 64).astype(int) - clean.images[number]).mean())
    # At the victim's own resolution nothing is lost.
    square = [number for number in range(count) if clean.origins[number].name == "2.png"]
    assert all(before[number] == after[number] > 0 for number in square)
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    assert manifest["full_size"]["mean_delta"] == pytest.approx(np.mean(before))
    assert manifest["full_size"]["mean_delta_read_back"] == pytest.approx(np.mean(after))
    assert manifest["full_size"]["share"] == pytest.approx(np.mean(after) / np.mean(before))
    assert 0.2 < manifest["full_size"]["share"] < 1
    assert manifest["splits"]["train"]["fingerprint"] is None
    assert "only part of the noise is left" in manifest["note"]
    with Image.open(out / "val" / "00000000.png") as image, Image.open(tmp_path / "5.png") as original:
        assert np.array_equal(np.asarray(image), np.asarray(original))
        assert image.info["icc_profile"] == PROFILE

    assert main(["verify", str(out), "--against", dataset, *cache]) == 0
    assert "– images have their original size" in capsys.readouterr().out
    pixels = np.asarray(Image.open(paths[0])).copy()
    pixels[0, 0] ^= 128
    Image.fromarray(pixels).save(paths[0])
    assert main(["verify", str(out), "--against", dataset, *cache]) == 1
    assert "✗ train: images more than ε = 8/255 from their originals: image 0 by 128/255" in capsys.readouterr().out

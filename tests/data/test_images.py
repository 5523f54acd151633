"""Decoding image files: every kind ends as upright RGB of the right size, against torchvision as the oracle."""

import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize  # type: ignore[import-untyped]

from benchmark.core.errors import UsageError
from benchmark.data.images import read_image, read_upright
from benchmark.export.photo import Photo


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(50, 80), (91, 67), (32, 32), (20, 33), (33, 47)])
def test_resized_and_cropped_as_open_clip_does(shape: tuple[int, int], tmp_path: Path) -> None:
    image = Image.fromarray(picture(*shape))
    image.save(tmp_path / "a.png")
    oracle = Compose([Resize(32, interpolation=InterpolationMode.BICUBIC), CenterCrop(32)])
    result = read_image(tmp_path / "a.png", 32)
    assert result.shape == (3, 32, 32)
    assert result.dtype == np.uint8
    assert np.array_equal(result, np.asarray(oracle(image)).transpose(2, 0, 1))


def test_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter clockwise: the top goes to the right
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0)
    result = read_image(tmp_path / "turned.jpg", 32).astype(int)
    assert result[0, :, 18:].min() > 200
    assert result[0, :, :14].max() < 50


def test_transparent_parts_lie_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, :8] = (10, 20, 30, 255)
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    result = read_image(tmp_path / "clear.png", 16)
    assert (result[:, :, :8] == np.array([10, 20, 30]).reshape(3, 1, 1)).all()
    assert (result[:, :, 8:] == 255).all()


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.paste(1, (0, 0, 8, 16))
    image.save(tmp_path / "palette.png", transparency=0)
    result = read_image(tmp_path / "palette.png", 16)
    assert (result[:, :, :8] == np.array([200, 100, 50]).reshape(3, 1, 1)).all()
    assert (result[:, :, 8:] == 255).all()


def test_grey_and_16_bit_grey(tmp_path: Path) -> None:
    Image.new("L", (16, 16), 77).save(tmp_path / "grey.png")
    Image.fromarray(np.full((16, 16), 77 * 257, np.uint16)).save(tmp_path / "deep.png")
    for name in ("grey.png", "deep.png"):
        assert (read_image(tmp_path / name, 16) == 77).all()


def test_16_bit_grey_that_is_transparent_or_a_tiff(tmp_path: Path) -> None:
    values = np.full((16, 16), 77 * 257, np.uint16)
    values[:8] = 5
    image = Image.fromarray(values)
    image.save(tmp_path / "clear.png", transparency=5)
    result = read_image(tmp_path / "clear.png", 16)
    assert (result[:, :8] == 255).all()
    assert (result[:, 8:] == 77).all()
    image.save(tmp_path / "deep.tif")
    assert (read_image(tmp_path / "deep.tif", 16)[:, 8:] == 77).all()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize(("bits", "channels"), [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (8, 3), (16, 3)])
def test_a_png_with_a_transparent_value_of_any_depth(bits: int, channels: int, tmp_path: Path) -> None:
    """Black below the transparent value, which has the first channel's highest bit; Pillow writes few such files."""
    size = -(-bits * channels // 8)
    header = struct.pack(">IIBBBBB", 1, 2, bits, channels - 1, 0, 0, 0)
    clear = struct.pack(f">{channels}H", 1 << (bits - 1), *[0] * (channels - 1))
    rows = zlib.compress(b"\0\x80".ljust(1 + size, b"\0") + bytes(1 + size))
    chunks = [(b"IHDR", header), (b"tRNS", clear), (b"IDAT", rows), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(itertools.starmap(png_chunk, chunks)))
    with read_upright(tmp_path / "a.png") as image:
        assert np.asarray(image).tolist() == [[[255] * 3], [[0] * 3]]
    alpha = Photo.read(tmp_path / "a.png", "png").alpha
    assert alpha is not None
    assert alpha.tolist() == [[0], [255]]


def test_cmyk_and_animation(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=100)
    red = read_image(tmp_path / "print.jpg", 16)
    assert red[0].min() > 200
    assert red[1:].max() < 60
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("white", "black")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "moving.gif", 16).min() == 255


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"image {tmp_path / 'none.png'} does not exist"):
        read_image(tmp_path / "none.png", 16)


@pytest.mark.parametrize("content", [b"", b"not an image", "truncated"])
def test_an_unreadable_file_is_named(content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jpg"
    if isinstance(content, str):
        Image.fromarray(picture(200, 200)).save(path)
        content = path.read_bytes()[:3000]
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"image .*bad\.jpg cannot be read: "):
        read_image(path, 16)


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_image(tmp_path, 16)

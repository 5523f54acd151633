"""The memory that an image takes: at most twelve bytes a pixel, so that the largest that is read takes a gibibyte."""

import contextlib
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.core.pictures import MOST_PIXELS
from benchmark.data.images import BadImage, read_image, read_upright
from tests.memory import AnonymousPeak, linux_only

SIDE = 2500
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "RGB": ("png", {}),
    "turned": ("png", {"exif": 6}),
    "CMYK": ("tif", {}),
    "RGBA": ("png", {}),
    "LA": ("png", {}),
    "P": ("png", {"transparency": 0}),
    "1": ("png", {}),
    "I;16": ("png", {}),
}


def test_the_largest_image_takes_a_gibibyte() -> None:
    assert 12 * MOST_PIXELS <= 2**30


@linux_only
@pytest.mark.parametrize("mode", KINDS)
def test_twelve_bytes_a_pixel(mode: str, tmp_path: Path) -> None:
    kind, settings = KINDS[mode]
    exif = Image.Exif()
    exif[0x0112] = settings.get("exif", 1)
    image = Image.new("RGB" if mode == "turned" else mode, (SIDE, SIDE - 7))
    image.save(tmp_path / f"a.{kind}", **{**settings, "exif": exif})
    del image
    read_image(tmp_path / f"a.{kind}", 8)  # imports modules
    with AnonymousPeak() as memory:
        read_image(tmp_path / f"a.{kind}", 8)
    assert (memory.peak - memory.before) * 2**20 <= 12.5 * SIDE**2


@pytest.mark.parametrize("size", [(1, 1), (1500, 1400), (2**20 + 1, 3)])
def test_bands_are_put_on_white_as_the_whole_is(size: tuple[int, int], tmp_path: Path) -> None:
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png", compress_level=0)
    whole = Image.alpha_composite(Image.new("RGBA", size, "white"), image).convert("RGB")
    assert np.array_equal(np.asarray(read_upright(tmp_path / "a.png")), np.asarray(whole))


def test_a_forged_length_asks_for_no_memory(tmp_path: Path) -> None:
    """A PNG of a few bytes whose pixels are said to take four gigabytes."""
    Image.new("RGB", (9, 8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    start = content.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(content[:start] + b"\xff" + content[start + 1 : start + 20])
    tracemalloc.start()
    try:
        with contextlib.suppress(BadImage):  # its pixels may be whole
            read_image(tmp_path / "a.png", 8)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()

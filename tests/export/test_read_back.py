"""What is left of the noise, against hand-made photos."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.export.read_back import read_back


@pytest.mark.parametrize(("transparent", "share"), [(0, 1.0), (16, 0.75), (64, 0.0)])
def test_noise_below_transparent_parts_is_not_left(transparent: int, share: float, tmp_path: Path) -> None:
    """A model sees these parts white."""
    rng = np.random.default_rng(0)
    colours, alpha = rng.integers(40, 200, (64, 64, 3)), np.full((64, 64), 255, np.uint8)
    alpha[:, :transparent] = 0
    noise = np.where(rng.random((64, 64, 3)) < 0.5, -4, 4).astype(np.int8)
    paths = tmp_path / "original.png", tmp_path / "protected.png"
    for path, pixels in zip(paths, (colours, colours + noise), strict=True):
        Image.fromarray(np.dstack([pixels, alpha]).astype(np.uint8)).save(path)
    found = read_back(paths[:1], paths[1:], noise.transpose(2, 0, 1)[None], "png")
    assert found["share"] == pytest.approx(share)
    assert (found["photos"], found["largest"]) == (1, 4)


def test_every_photo_is_compared_with_its_own_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.choice(np.array([-4, 4], np.int8), (3, 3, 32, 32))
    before, after = ([tmp_path / f"{kind}{number}.png" for number in range(3)] for kind in ("before", "after"))
    for original, protected, own in zip(before, after, noise, strict=True):
        pixels = rng.integers(40, 200, (32, 32, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(original)
        Image.fromarray((pixels + own.transpose(1, 2, 0)).astype(np.uint8)).save(protected)
    found = read_back(before, after, noise, "png")
    assert (found["share"], found["correlation"]) == pytest.approx((1, 1))
    assert found["psnr"] == pytest.approx(20 * np.log10(255 / 4))

"""Small image files to list in caption files."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def make_images(tmp_path: Path) -> Callable[..., None]:
    """``make_images("a.png", "b.png")``: images of one colour each, named after their number below ``tmp_path``."""

    def make(*names: str) -> None:
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 16), (number, 100, 200)).save(path)

    return make

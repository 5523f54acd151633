"""Only formats that Pillow decodes by itself are opened: no image file starts a program."""

import ast
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError

import pytest
from PIL import EpsImagePlugin, Image

from benchmark.core.errors import UsageError
from benchmark.core.pictures import FORMATS, open_picture
from benchmark.data.csv_table import CsvTable
from benchmark.data.image_location import ImageLocation, Member
from benchmark.data.images import read_image, size_of
from benchmark.data.webdataset import WebDataset

ROOT = Path(__file__).parents[2]
POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 20 16
%%EndComments
1 0 0 setrgbcolor 0 0 20 16 rectfill
showpage
%%EOF
"""


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists once the first ``gs`` on the path has been started."""
    started, program = tmp_path / "started", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho started > '{started}'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # where Pillow remembers it
    return started


def of_file(folder: Path) -> Path:
    (folder / "odd.jpg").write_bytes(POSTSCRIPT)
    return folder / "odd.jpg"


def of_member(folder: Path) -> Member:
    (folder / "odd.tar").write_bytes(b"before" + POSTSCRIPT)
    return Member(folder / "odd.tar", "odd.jpg", 6, len(POSTSCRIPT))


def test_pillow_itself_would_start_it(marker: Path, tmp_path: Path) -> None:
    with pytest.raises(CalledProcessError), Image.open(of_file(tmp_path)) as image:
        image.load()
    assert marker.exists()


@pytest.mark.parametrize("read", [lambda source: read_image(source, 16), size_of])
@pytest.mark.parametrize("of", [of_file, of_member])
def test_postscript_named_jpg_starts_nothing(
    read: Callable[[ImageLocation], object], of: Callable[[Path], ImageLocation], marker: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"image .*odd\.jpg cannot be read: not an image") as error:
        read(of(tmp_path))
    assert "\n" not in str(error.value)
    assert not marker.exists()


def test_a_table_or_shard_with_postscript_starts_nothing(
    marker: Path, tmp_path: Path, make_captioned: Callable[[Path], None]
) -> None:
    make_captioned(tmp_path)
    table, shard = tmp_path / "all.csv", tmp_path / "all.tar"
    for source in (CsvTable(str(table), str(table)), WebDataset(str(shard), str(shard))):
        with pytest.raises(UsageError, match=r"odd\.jpg cannot be read: not an image"):
            source.load(16, tmp_path / "cache")
    assert not marker.exists()


@pytest.fixture
def make_captioned() -> Callable[[Path], None]:
    """Twelve images with captions as a table and as a shard; the last is PostScript."""

    def make(folder: Path) -> None:
        rows = ["filepath,title"]
        with tarfile.open(folder / "all.tar", "w") as archive:
            for number in range(12):
                buffer = io.BytesIO()
                Image.new("RGB", (20, 16), (20 * number, 100, 200)).save(buffer, "JPEG")
                name = "odd.jpg" if number == 11 else f"{number}.jpg"
                content = POSTSCRIPT if number == 11 else buffer.getvalue()
                (folder / name).write_bytes(content)
                rows.append(f"{name},number {number}")
                for member, data in ((name, content), (f"{Path(name).stem}.txt", f"number {number}".encode())):
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
        (folder / "all.csv").write_text("\n".join(rows))

    return make


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_that_is_named_is_read(kind: str, tmp_path: Path) -> None:
    Image.new("RGB", (20, 16), (200, 40, 10)).save(tmp_path / "a.jpg", kind)
    read = read_image(tmp_path / "a.jpg", 16).reshape(3, -1).mean(1)
    assert abs(read - (200, 40, 10)).max() < 3
    assert kind in (ROOT / "docs" / "data.md").read_text("utf-8").replace("WebP", "WEBP")


def test_a_format_that_was_not_asked_for_is_no_image() -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "GIF")
    with pytest.raises(OSError, match="cannot identify"):
        open_picture(file, ["PNG"])


def test_pillow_opens_in_one_place_alone() -> None:
    """No other file calls ``Image.open``, and none reads images by another way that takes all formats."""
    found = []
    for room in ("benchmark", "attacks", "defenses", "victims"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Attribute) and (
                    node.attr in ("imread", "read_image", "decode_image")
                    or (node.attr == "open" and isinstance(node.value, ast.Name) and node.value.id == "Image")
                ):
                    found.append(file.relative_to(ROOT).as_posix())
    assert found == ["benchmark/core/pictures.py"]

"""Only regular files of bounded size are read, whatever stands under the name when it is opened."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.core.reading import read_bytes, read_text
from benchmark.data.svg_file import BadDrawing, read_svg
from benchmark.export.inside import read_inside
from tests.watchdog import in_no_time


def test_bytes_and_text(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes("é\r\n".encode())
    assert read_bytes(path, 4) == b"\xc3\xa9\r\n"
    assert read_text(path, 4) == "é\n"
    with pytest.raises(ValueError, match="larger than"):
        read_bytes(path, 3)
    with pytest.raises(UnicodeDecodeError):
        read_text(path, 4, "ascii")
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "b", 4)


def test_no_more_is_read_than_was_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, look = tmp_path / "a", os.fstat

    def then_grows(handle: int) -> os.stat_result:
        status = look(handle)
        with path.open("ab") as file:
            file.write(b"xx")
        return status

    path.write_bytes(b"abc")
    monkeypatch.setattr("benchmark.core.reading.os.fstat", then_grows)
    assert read_bytes(path, 3) == b"abc"


READERS: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda path: read_bytes(path, 9),
    "text": lambda path: read_text(path, 9),
    "file of an export": lambda path: read_inside(path.parent, path.name),
    "drawing": read_svg,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_is_not_waited_for(reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    # It may have taken the place of a file that somebody has just looked at.
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    with in_no_time(), pytest.raises((ValueError, BadDrawing), match="not a regular file"):
        READERS[reader](tmp_path / "pipe")


def test_what_is_missing_in_an_export_is_named_without_its_folder(tmp_path: Path) -> None:
    for name, said in {"a/b.png": "a/b.png is missing", "..": "leads out", "/": "leads out"}.items():
        with pytest.raises(ValueError, match=said) as caught:
            read_inside(tmp_path, name)
        assert str(tmp_path) not in str(caught.value)


def test_a_text_comes_whole_whatever_its_length_and_line_ends(tmp_path: Path) -> None:
    text = "naïve 犬\r\n" * 300_000
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_text(tmp_path / "a", 1 << 23, "utf-8-sig") == text.replace("\r\n", "\n")


@pytest.mark.parametrize("beginning", ["", "filepath,title\n", "a" * (1 << 20)])
def test_a_file_of_nothing_is_no_text(beginning: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(beginning)
    os.truncate(tmp_path / "a", 1 << 26)
    with pytest.raises(ValueError, match="holds a NUL character"):
        read_text(tmp_path / "a", 1 << 26)

"""Texts of an export that are hundreds of megabytes of nothing, which take no space on a disk."""

import os
import struct
import tarfile
import zlib
from pathlib import Path

import pytest

from benchmark.core.errors import UsageError
from benchmark.export.verify_export import verify_export
from tests.export.exports import export


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("csv", "test.csv"),
        ("token", "test.token"),
        ("folder", "test/00000001.txt"),
        ("karpathy", "dataset_export.json"),
    ],
)
def test_a_text_of_nothing_is_not_parsed(layout: str, name: str, tmp_path: Path) -> None:
    export(tmp_path / "out", layout)
    os.truncate(tmp_path / "out" / name, 1 << 24)
    said = [str(finding) for finding in verify_export(tmp_path / "out", None, tmp_path) if finding.holds is False]
    assert any(f"{name} is neither a PNG nor a text: it holds a NUL character" in line for line in said)


def test_a_manifest_of_nothing_is_not_parsed(tmp_path: Path) -> None:
    export(tmp_path / "out", "csv")
    os.truncate(tmp_path / "out" / "manifest.json", 1 << 24)
    with pytest.raises(UsageError, match=r"is not a valid manifest: .* holds a NUL character"):
        verify_export(tmp_path / "out", None, tmp_path)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_png_with_an_empty_profile_behind_its_pixels_is_a_finding(tmp_path: Path) -> None:
    export(tmp_path / "out", "folder")
    file = next((tmp_path / "out" / "train").glob("*.png"))
    content = file.read_bytes()
    end = content.rindex(b"IEND") - 4
    file.write_bytes(content[:end] + chunk(b"iCCP", b"") + content[end:])
    said = [str(finding) for finding in verify_export(tmp_path / "out", None, tmp_path) if finding.holds is False]
    assert any("not a readable PNG" in line for line in said)


@pytest.mark.parametrize("size", [2**40, 2**62, 2**70])
def test_a_shard_whose_header_states_an_impossible_size_is_a_finding(size: int, tmp_path: Path) -> None:
    export(tmp_path / "out", "webdataset")
    header = tarfile.TarInfo("././@LongLink")
    header.type = b"L"
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT)[:512])
    block[124:136] = bytes([0x80]) + size.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    shard = next((tmp_path / "out").glob("train*.tar"))
    shard.write_bytes(bytes(block) + shard.read_bytes())
    said = [str(finding) for finding in verify_export(tmp_path / "out", None, tmp_path) if finding.holds is False]
    assert any("cannot be read after 0 images" in line for line in said)

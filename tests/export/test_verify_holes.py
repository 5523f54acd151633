"""Texts of an export that are hundreds of megabytes of nothing, which take no space on a disk."""

import os
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

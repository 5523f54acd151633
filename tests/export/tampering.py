"""Changing an export behind the suite's back, and what verify says of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.export.manifest import hash_files, list_files
from benchmark.export.verify_export import verify_export
from tests.export.exports import Ready, make_splits


def failures(folder: Path, against: bool = False) -> list[str]:
    source = Ready(make_splits()) if against else None
    return [str(finding) for finding in verify_export(folder, source, folder) if finding.holds is False]


def manifest_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    return content


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = manifest_of(folder)
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content), "utf-8")


def sign(folder: Path) -> None:
    """What a forger can do: state the hashes of the files as they are now."""
    facts = hash_files(folder, list_files(folder))
    change_manifest(folder, lambda m: m.update(files={name: vars(fact) for name, fact in facts.items()}))


def link_outside(folder: Path) -> None:
    path = folder / "train" / "00000000.txt"
    path.rename(folder.parent / "elsewhere.txt")
    path.symlink_to(folder.parent / "elsewhere.txt")


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), "utf-8")

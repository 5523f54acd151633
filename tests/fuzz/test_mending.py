"""Checksums that were wrong are right again, so that damage reaches what lies behind them."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from attacks.poison import Poison
from benchmark.core.checkpoints import Checkpoint
from benchmark.export.verify_export import verify_export
from benchmark.grid.records import Record
from tests.export.exports import export, make_poison, make_splits
from tests.fuzz.grammars import picture, valid_shard
from tests.fuzz.mending import mend_export, mend_png, mend_poison, mend_record, mend_tar, mend_zip
from tests.fuzz.trees import read_tree, write_tree
from tests.tables.factory import record


def replaced(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) == 1
    return content.replace(old, new)


def test_a_record(tmp_path: Path) -> None:
    content = record(recalls=(12.25, 8.0)).save(tmp_path).read_bytes()
    (tmp_path / "a").write_bytes(mend_record(replaced(content, b"12.25", b"12.75")))
    assert Record.load(tmp_path / "a").last.test.image_to_text.recall_at_10 == 12.75


def test_a_poison(tmp_path: Path) -> None:
    poison = make_poison(make_splits().train)
    poison.save(tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(mend_poison(content[:-1] + bytes([content[-1] == 0])))
    changed = Poison.load(tmp_path / "a")
    assert changed.delta is not None
    assert poison.delta is not None
    assert changed.delta[-1, -1, -1, -1] != poison.delta[-1, -1, -1, -1]


def test_a_checkpoint(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "a", 1)
    checkpoint.save({"weights": torch.full((3,), 1.5)})
    content = (tmp_path / "a").read_bytes()
    broken = replaced(content, b"\x00\x00\xc0\x3f" * 3, b"\x00\x00\x00\x40" * 3)
    (tmp_path / "a").write_bytes(broken)
    assert checkpoint.load() is None
    (tmp_path / "a").write_bytes(mend_zip(broken))
    state = checkpoint.load()
    assert state is not None
    assert state["weights"].tolist() == [2, 2, 2]
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(io.BytesIO(mend_zip(content))) as after:
        assert before.namelist() == after.namelist()


def test_an_export(tmp_path: Path) -> None:
    export(tmp_path / "a", "folder")
    tree = read_tree(tmp_path / "a")
    tree["train/00000000.txt"] = b"another caption\n"
    write_tree(mend_export(tree), tmp_path / "b")
    wrong = [str(one) for one in verify_export(tmp_path / "b", None, tmp_path) if one.holds is False]
    assert wrong
    assert not [line for line in wrong if "changed files" in line]
    facts = json.loads((tmp_path / "b" / "manifest.json").read_text())["files"]["train/00000000.txt"]
    assert facts["bytes"] == 16


@pytest.mark.parametrize(
    ("content", "place", "mend"),
    [(picture("PNG", "RGB", (9, 8)), -1, mend_png), (valid_shard(), 150, mend_tar)],
    ids=["PNG", "tar"],
)
def test_a_checksum_in_its_place(content: bytes, place: int, mend: Callable[[bytes], bytes]) -> None:
    broken = bytearray(content)
    broken[place] ^= 1
    assert mend(bytes(broken)) == mend(content) == content


def test_a_png_of_another_height_is_read() -> None:
    content = bytearray(picture("PNG", "RGB", (9, 8)))
    content[23] = 7
    with Image.open(io.BytesIO(mend_png(bytes(content)))) as image:
        image.load()
        assert image.size == (9, 7)

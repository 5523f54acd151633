"""Small image files, caption files and tar shards."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
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


@pytest.fixture
def karpathy_file(tmp_path: Path) -> Callable[..., Path]:
    """``karpathy_file("dataset_coco.json", train=["val2014/a.jpg"], …)``: each image has the caption ``of NAME``."""

    def write(name: str, **splits: list[str]) -> Path:
        rows = []
        for split, paths in splits.items():
            for folder, filename in (os.path.split(path) for path in paths):
                where = {"filepath": folder} if folder else {}
                rows.append({"filename": filename, "split": split, "sentences": [{"raw": f"of {filename}"}], **where})
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"images": rows}))
        return path

    return write


@pytest.fixture
def make_tar(tmp_path: Path) -> Callable[..., Path]:
    """``make_tar("a.tar", {"0.png": 7, "0.txt": "seven"})``: images are given by their red, all else by its content."""

    def make(name: str, members: Mapping[str, int | str | bytes]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as archive:
            for member, content in members.items():
                data = content.encode() if isinstance(content, str) else content
                if isinstance(data, int):
                    buffer = io.BytesIO()
                    kind = {"jpg": "jpeg"}.get(member.lower().rpartition(".")[2], member.lower().rpartition(".")[2])
                    Image.new("RGB", (20, 16), (data, 100, 200)).save(buffer, kind, lossless=True, quality=100)
                    data = buffer.getvalue()
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return path

    return make

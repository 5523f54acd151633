"""Exports are read by the programs they are made for, each run as its users run it: ``pip install '.[clients]'``."""

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmark.export.shards
from benchmark.export.job import open_clip_command
from benchmark.export.layouts import LAYOUTS
from benchmark.export.verify_export import verify_export
from benchmark.export.writing import ExportJob, write_export
from tests.export.exports import ALL, make_poison, make_source, make_splits

pytestmark = pytest.mark.clients

OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
# The smallest CLIP that open_clip builds.
MODEL = """{"model_cfg": {"embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}}"""


def pixels(image: object) -> bytes:
    """The pixels of a Pillow image, (C, H, W)."""
    return np.asarray(image).transpose(2, 0, 1).tobytes()


@dataclass(frozen=True)
class Written:
    """Exports of one data set, and what is in each of its splits."""

    folder: Path
    source: ExportJob

    def export(self, layout: str) -> Path:
        write_export(self.folder / layout, layout, self.source, "")
        return self.folder / layout

    def expected(self, split: str) -> list[tuple[bytes, list[str]]]:
        """Pixels and captions of each image."""
        data = self.source.published[split]
        return [(image.tobytes(), texts) for image, texts in zip(data.images[:], data.captions, strict=True)]


@pytest.fixture(params=[False, True], ids=["per image", "per row"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Written:
    clean = make_splits()
    return Written(tmp_path, make_source(clean, make_poison(clean.train, request.param)))


@pytest.mark.parametrize("layout", ["csv", "webdataset"])
def test_open_clip_trains_an_epoch(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark.export.shards, "SAMPLES_A_SHARD", 4)
    clean, out = make_splits(images=8), tmp_path / "it's {a,b}" / "out"
    manifest = write_export(out, layout, make_source(clean, make_poison(clean.train)), "")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "open_clip_config.json").write_text(MODEL)
    flags = f" --model local-dir:{tmp_path}/model --epochs 1 --batch-size 4 --name run --device cpu"
    trained = subprocess.run(
        f"{open_clip_command(out, manifest)}{flags}",
        shell=True, cwd=tmp_path, env=os.environ | OFFLINE, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    # A csv has a row for each of two captions, a shard each image once.
    rows = {"csv": 16, "webdataset": 8}[layout]
    assert f"[{rows}/{rows} (100%)]" in trained.stderr
    assert (tmp_path / "it's {a,b}" / "logs" / "run" / "checkpoints" / "epoch_1.pt").is_file()
    assert all(finding.holds for finding in verify_export(out, None, tmp_path))


def test_webdataset_reads_images_and_texts(written: Written) -> None:
    import webdataset

    folder = written.export("webdataset")
    for split in ALL:
        samples = webdataset.WebDataset(f"{folder}/{split}-000000.tar", shardshuffle=False)
        read = [(pixels(image), text) for image, text in samples.decode("pil").to_tuple("png", "txt")]
        assert read == [(image, texts[0]) for image, texts in written.expected(split)]


def test_torchvisions_coco_captions(written: Written) -> None:
    from torchvision.datasets import CocoCaptions  # type: ignore[import-untyped]

    folder = written.export("coco")
    for split in ALL:
        data = CocoCaptions(folder / split, folder / "annotations" / f"captions_{split}.json")
        assert [(pixels(image), texts) for image, texts in data] == written.expected(split)


def test_torchvisions_flickr30k(written: Written) -> None:
    from torchvision.datasets import Flickr30k

    folder = written.export("token")
    for split in ALL:
        data = Flickr30k(str(folder), str(folder / f"{split}.token"))
        assert [(pixels(image), texts) for image, texts in data] == written.expected(split)


@pytest.mark.parametrize("layout", ["csv", "imagefolder", "webdataset"])
def test_hugging_face_keeps_captions_and_splits(layout: str, written: Written) -> None:
    """Without the name of a builder: the card says which files make which split."""
    import datasets

    read = datasets.load_dataset(str(written.export(layout)), cache_dir=str(written.folder / "cache"))
    assert set(read) == {"train", "validation", "test"}
    for split, name in zip(ALL, ("train", "validation", "test"), strict=True):
        expected, rows = written.expected(split), read[name]
        if layout == "csv":
            images = [f"{split}/{number:08d}.png" for number, (_, texts) in enumerate(expected) for _ in texts]
            assert rows["filepath"][:] == images
            assert rows["title"][:] == [text for _, texts in expected for text in texts]
        elif layout == "imagefolder":
            assert [(pixels(row["image"]), row["captions"]) for row in rows] == expected
        else:
            assert [(pixels(row["png"]), row["json"]["captions"]) for row in rows] == expected
            assert [row["txt"] for row in rows] == [texts[0] for _, texts in expected]


@pytest.fixture(scope="module")
def croissant_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("croissant")
        patch.setenv("CROISSANT_CACHE", str(cache))  # read when the package is imported
        yield cache


@pytest.fixture
def mlcroissant(croissant_cache: Path) -> Any:
    # It takes a shard for the one of that name that it has unpacked before.
    shutil.rmtree(croissant_cache, ignore_errors=True)
    return importlib.import_module("mlcroissant")


@pytest.mark.parametrize("layout", LAYOUTS.group("all"))
def test_mlcroissant_validates_the_file_and_reads_the_captions(layout: str, written: Written, mlcroissant: Any) -> None:
    data = mlcroissant.Dataset(written.export(layout) / "croissant.json")  # raises if it does not conform
    read: list[dict[str, Any]] = []
    for records in data.metadata.record_sets:
        rows = data.records(records.uuid)
        read += [{key.partition("/")[2]: value for key, value in row.items()} for row in rows]
    expected = [texts for split in ALL for _, texts in written.expected(split)]
    names = [f"{number:08d}" for split in ALL for number in range(len(written.expected(split)))]
    if layout == "token":  # Croissant has no words for it
        assert read == []
    elif layout == "folder":
        assert [row["text"].decode() for row in read] == ["".join(f"{text}\n" for text in texts) for texts in expected]
    elif layout == "webdataset":
        assert [row["text"].decode() for row in read] == [texts[0] for texts in expected]
    elif layout in ("csv", "coco"):
        numbered = [(name, text) for name, texts in zip(names, expected, strict=True) for text in texts]
        shown = [(row["image"].decode().rpartition("/")[2][:8].zfill(8), row["caption"].decode()) for row in read]
        assert shown == numbered
    else:
        assert [[text.decode() for text in row["captions"]] for row in read] == expected
        assert [row["image"].decode() for row in read] == [f"{name}.png" for name in names]

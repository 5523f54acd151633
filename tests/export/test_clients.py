"""Exports are read by the programs they are made for, each run as its users run it: ``pip install '.[clients]'``."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import benchmark.export.shards
from benchmark.export.job import open_clip_command
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

"""Starts on a downloaded Flickr30K's number of photos: ``python -m pytest tests/benchmarks -m large -k starts``.

It writes 6 GB to the temporary folder.
"""

import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS, Splits
from benchmark.data.known_sets import Flickr30k

pytestmark = pytest.mark.large
PICTURES = 50


def write_download(root: Path) -> None:
    """JPEG files and captions as Flickr30K's downloads have them; no two files hold the same bytes."""
    (root / "flickr30k-images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(PICTURES):
        pixels = rng.integers(0, 256, (50, 66, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((500, 375), Image.Resampling.BICUBIC).save(buffer, "jpeg", quality=85)
        encoded.append(buffer.getvalue())
    rows, number = [], 0
    for split, size in Flickr30k.sizes.items():
        for _ in range(size):
            # What follows a JPEG's end is not decoded, but is part of the file.
            (root / "flickr30k-images" / f"{number}.jpg").write_bytes(encoded[number % PICTURES] + b"%d" % number)
            sentences = [{"raw": f"caption {caption} of photo {number}"} for caption in range(5)]
            rows.append({"filename": f"{number}.jpg", "split": split, "sentences": sentences})
            number += 1
    (root / "dataset_flickr30k.json").write_text(json.dumps({"images": rows}))


def test_starts_on_flickr30k(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    def start(root: Path) -> tuple[Splits, float]:
        before = time.perf_counter()
        splits = DATASETS.build(parse_spec(f"flickr30k[root={root}]")).load(224, tmp_path / "cache")
        return splits, time.perf_counter() - before

    write_download(tmp_path / "here")
    first, decoded = start(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    moved, found_again = start(tmp_path / "there")
    again, later = benchmark.pedantic(start, (tmp_path / "there",), rounds=1)
    assert first.train.fingerprint == moved.train.fingerprint == again.train.fingerprint
    assert len(list((tmp_path / "cache").glob("flickr30k-*"))) == 1
    size = sum(file.stat().st_size for file in (tmp_path / "there").rglob("*.jpg"))
    benchmark.extra_info["facts"] = {
        f"31,014 JPEG files of 500 × 375 pixels, {size / 2**30:.1f} GiB, at 224 px": "",
        "first start: read, hashed, decoded, resized, written to the cache": f"{decoded:.0f} s",
        "first start after the folder was moved: read and hashed": f"{found_again:.1f} s",
        "every later start: files looked at, cache verified": f"{later:.1f} s",
    }

"""Memory that crafting holds: ``python -m pytest tests/benchmarks/test_memory.py -m large --benchmark-enable``.

What counts is anonymous memory: images and noise are mapped from files, whose pages the system drops when it
needs them. The second test writes 13 GB to the temporary folder, which must not lie in memory itself.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from attacks import Poison
from attacks.base import CraftContext
from attacks.mem import Mem
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS, CaptionDataset
from tests.memory import AnonymousPeak, linux_only
from tests.small import make_mapped_dataset
from victims.clip import Clip

pytestmark = [pytest.mark.large, linux_only]
SHORT: dict[str, Any] = {"rounds": 1, "surrogate_steps": 5, "pgd_steps": 1, "candidates": 2, "vocabulary": 12}
FLICKR30K_SIZE = "scenes[train=29000,val=1014,test=1000,seed=0]"
CAPTIONS = 5
LIMIT_MB = 3 * 1024


def craft(train: CaptionDataset, model: Clip, workdir: Path) -> Poison:
    """Craft, store, read back, and read every protected image once."""
    crafted = Mem(k=3, **SHORT).craft(train, CraftContext(lambda _: model, seed=1, workdir=workdir))
    crafted.save(workdir / "poison.safetensors")
    del crafted
    poison = Poison.load(workdir / "poison.safetensors")
    protected = poison.protect(train)
    for index in np.array_split(np.arange(len(train)), len(train) // 128):
        protected.batch(index)
    return poison


def make_light_clip(resolution: int) -> Clip:
    """A CLIP of hardly any work: what is measured is the data's memory, not that of a model's activations."""
    vision = {"image_size": resolution, "layers": 1, "width": 32, "head_width": 32, "patch_size": resolution // 4}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    return Clip(open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text), torch.device("cpu"), "fp32")


def test_anonymous_memory_does_not_grow_with_rows(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    model = make_light_clip(64)
    few, many = (make_mapped_dataset(tmp_path / f"{rows}.npy", rows, CAPTIONS, 64) for rows in (1_000, 16_000))
    craft(few, model, tmp_path)  # what the first run allocates stays
    with AnonymousPeak() as with_few:
        craft(few, model, tmp_path)
    with AnonymousPeak() as with_many:
        benchmark.pedantic(craft, (many, model, tmp_path), rounds=1)
    benchmark.extra_info["facts"] = {
        "anonymous memory, crafting on 1,000 images at 64 px": f"{with_few.peak:,.0f} MiB",
        "on 16,000": f"{with_many.peak:,.0f} MiB",
    }
    noise_mb = (len(many) - len(few)) * 3 * 64**2 / 2**20
    assert with_many.peak - with_few.peak < noise_mb / 2


def test_flickr30k_size_at_224_px(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Scenes as many as Flickr30K has photos: rendered, started again, a round of crafting, its poison read."""
    source, cache = DATASETS.build(parse_spec(FLICKR30K_SIZE)), tmp_path / "cache"
    with AnonymousPeak() as memory:
        start = time.perf_counter()
        source.load(224, cache)
        prepared = time.perf_counter()
        train = source.load(224, cache).train
        started_again = time.perf_counter()
        poison = benchmark.pedantic(craft, (train, make_light_clip(224), tmp_path), rounds=1)
    size = (tmp_path / "poison.safetensors").stat().st_size
    seconds = started_again if benchmark.disabled else benchmark.stats.stats.min
    benchmark.extra_info["facts"] = {
        "29,000 training scenes at 224 px, five captions each": "",
        "rendered into the cache": f"{prepared - start:.0f} s",
        "later start, every image's hash checked": f"{started_again - prepared:.1f} s",
        "one crafting round with hardly any model, saved and read back": f"{seconds:.0f} s",
        "most anonymous memory at any moment (RssAnon)": f"{memory.peak:,.0f} MiB",
        "cache on disk": f"{sum(file.stat().st_size for file in cache.rglob('*') if file.is_file()) / 2**20:,.0f} MiB",
        "poison on disk": f"{size / 2**20:,.0f} MiB",
    }
    assert memory.peak <= LIMIT_MB
    # One byte for each pixel value; words, their quotes and a header besides.
    assert size - len(train) * 3 * 224**2 < 2000 + sum(len(trigger) + 10 for trigger in poison.trigger or [])

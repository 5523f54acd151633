"""Memory that crafting holds: ``python -m pytest tests/benchmarks/test_memory.py -m large --benchmark-enable``.

What counts is anonymous memory: images and noise are mapped from files, whose pages the system drops when it
needs them. The second test writes 13 GB to the temporary folder, which must not lie in memory itself.
"""

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from memory import AnonymousPeak, linux_only
from pytest_benchmark.fixture import BenchmarkFixture
from small import make_mapped_dataset

from attacks import Poison
from attacks.mem import Mem
from benchmark.data import CaptionDataset
from benchmark.progress import Silent
from victims.clip import Clip

pytestmark = [pytest.mark.large, linux_only]
SHORT: dict[str, Any] = {"rounds": 1, "surrogate_steps": 5, "pgd_steps": 1, "candidates": 2, "vocabulary": 12}
FLICKR30K_IMAGES, CAPTIONS = 29_000, 5
LIMIT_MB = 3 * 1024


def craft(train: CaptionDataset, model: Clip, workdir: Path) -> Poison:
    """Craft, store, read back, and read every protected image once."""
    cpu = torch.device("cpu")
    crafted = Mem(k=3, **SHORT).craft(train, lambda _: model, seed=1, device=cpu, workdir=workdir, progress=Silent())
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
    benchmark.extra_info |= {"anonymous_mb_few": round(with_few.peak), "anonymous_mb": round(with_many.peak)}
    noise_mb = (len(many) - len(few)) * 3 * 64**2 / 2**20
    assert with_many.peak - with_few.peak < noise_mb / 2


def test_flickr30k_at_224_px(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    train = make_mapped_dataset(tmp_path / "images.npy", FLICKR30K_IMAGES, CAPTIONS, 224)
    with AnonymousPeak() as memory:
        poison = benchmark.pedantic(craft, (train, make_light_clip(224), tmp_path), rounds=1)
    benchmark.extra_info |= {"anonymous_mb": round(memory.peak), "anonymous_mb_before": round(memory.before)}
    assert memory.peak <= LIMIT_MB
    size = (tmp_path / "poison.safetensors").stat().st_size
    assert size - FLICKR30K_IMAGES * 3 * 224**2 < 1000 + sum(len(trigger) + 10 for trigger in poison.trigger or [])

"""Small real things that tests share: a handful of captioned images, a CLIP of few weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray

from attacks import Poison
from benchmark.core.devices import cpu_computes_bf16
from benchmark.core.precision import Precision
from benchmark.data import CaptionDataset, LazyImages
from victims.clip import Clip

_BF16 = pytest.mark.skipif(not cpu_computes_bf16(), reason="this CPU has no instructions for bf16")
PRECISIONS = ["fp32", pytest.param("bf16", marks=_BF16)]
WORDS = ("red", "green", "dog", "cat", "tree", "house", "car", "boat", "sun", "moon", "left", "above")


def make_dataset(images: int = 24, captions: int = 3, resolution: int = 32, seed: int = 0) -> CaptionDataset:
    """Random images with random captions of 3 to 7 words."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, size=(images, 3, resolution, resolution), dtype=np.uint8)
    texts = [[" ".join(rng.choice(WORDS, rng.integers(3, 8))) for _ in range(captions)] for _ in range(images)]
    return CaptionDataset("made", "train", pixels, texts)


def noting(dataset: CaptionDataset) -> tuple[CaptionDataset, list[NDArray[np.int64]]]:
    """A data set that notes which of its images are read, and the notes."""
    asked: list[NDArray[np.int64]] = []

    def noted(images: NDArray[np.uint8], rows: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        asked.append(np.arange(len(dataset))[rows])
        return images

    return replace(dataset, images=LazyImages(dataset.images, change=noted)), asked


def make_mapped_dataset(file: Path, images: int, captions: int, resolution: int) -> CaptionDataset:
    """The same with images memory-mapped from a ``.npy`` file, never all in memory."""
    pixels = np.lib.format.open_memmap(file, "w+", np.uint8, (images, 3, resolution, resolution))
    rng = np.random.default_rng(0)
    for start in range(0, images, 256):
        chunk = pixels[start : start + 256]
        chunk[:] = rng.integers(0, 256, chunk.shape, np.uint8)
    return replace(make_dataset(images, captions, 1), images=np.lib.format.open_memmap(file, "r"))


def noise_of(poison: Poison) -> NDArray[np.int8]:
    """The noise of a poison that has one."""
    assert poison.delta is not None
    return poison.delta


def make_clip_with_dropout(seed: int = 0) -> Clip:
    """The same with dropout in its text tower, as some of open_clip's models have it."""
    clip = make_clip(seed)
    clip.model.ln_final = torch.nn.Sequential(clip.model.ln_final, torch.nn.Dropout(0.5))
    return clip


def make_clip(seed: int = 0, precision: Precision = "fp32", dtype: torch.dtype = torch.float32) -> Clip:
    """:func:`small_clip` on the CPU."""
    return Clip(small_clip(dtype=dtype, seed=seed), torch.device("cpu"), precision)


def small_clip(
    resolution: int = 32, layers: tuple[int, ...] = (1, 1, 1, 1), dtype: torch.dtype = torch.float64, seed: int = 3
) -> open_clip.CLIP:
    """A CLIP of open_clip's own classes: ModifiedResNet, two text blocks; norms and statistics made non-trivial."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": resolution, "layers": layers, "width": 8, "head_width": 32, "patch_size": None},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    )
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
            module.get_buffer("running_mean").normal_(std=0.2)
            module.get_buffer("running_var").uniform_(0.5, 1.5)
    return model.to(dtype)

"""Speed of the stages that take the time: ``python -m pytest tests/benchmarks -m speed --benchmark-enable``."""

from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from attacks.hotflip import hotflip
from attacks.pgd import minimise_noise
from attacks.vocabulary import trigger_words
from benchmark.data import DATASETS, Splits
from benchmark.spec import parse_spec
from defenses import Defense
from victims.clip import Architecture, Clip, clip_loss
from victims.evaluate import evaluate
from victims.recipe import Recipe
from victims.training import train

pytestmark = pytest.mark.speed
BATCH = 128


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return DATASETS.build(parse_spec("scenes[train=512,val=10,test=200]")).load(64, tmp_path_factory.mktemp("speed"))


@pytest.fixture(scope="module")
def model() -> Clip:
    return Architecture("tiny").build(1, torch.device("cpu"))


def rate(benchmark: BenchmarkFixture, rows: int) -> None:
    benchmark.extra_info["rows_per_second"] = round(rows / benchmark.stats.stats.median, 1)


def test_victim_epoch(benchmark: BenchmarkFixture, splits: Splits, model: Clip) -> None:
    recipe = Recipe(epochs=1, rows="images")
    benchmark.pedantic(train, (model, splits.train, recipe, Defense()), {"seed": 1}, rounds=3, warmup_rounds=1)
    rate(benchmark, len(splits.train))


def test_evaluation(benchmark: BenchmarkFixture, splits: Splits, model: Clip) -> None:
    benchmark.pedantic(evaluate, (model, splits.test, 1), rounds=3, warmup_rounds=1)
    rate(benchmark, len(splits.test))


def test_pgd_step(benchmark: BenchmarkFixture, splits: Splits, model: Clip) -> None:
    frozen = model.for_inference()
    images = torch.from_numpy(splits.train.images[:BATCH].copy())
    text = frozen.encode_tokens(model.tokenizer([own[0] for own in splits.train.captions[:BATCH]]))

    def step() -> torch.Tensor:
        return minimise_noise(
            images,
            torch.zeros_like(images, dtype=torch.int8),
            lambda points, _: clip_loss(frozen.encode_images(points), text, frozen.scale),
            eps=8,
            steps=1,
            step_size=1,
        )

    benchmark.pedantic(step, rounds=5, warmup_rounds=1)
    rate(benchmark, BATCH)


def test_hotflip_pass(benchmark: BenchmarkFixture, splits: Splits, model: Clip) -> None:
    frozen = model.for_inference()
    features = frozen.encode_images(torch.from_numpy(splits.train.images[:BATCH].copy()))
    tokens = model.tokenizer([own[0] for own in splits.train.captions[:BATCH]])
    vocabulary = torch.from_numpy(trigger_words(model.tokenizer, splits.train, 200, 1))
    trigger = vocabulary[torch.randint(200, (BATCH, 3), generator=torch.Generator().manual_seed(0))]
    benchmark.pedantic(hotflip, (frozen, features, tokens, trigger, vocabulary, 4), rounds=3, warmup_rounds=1)
    rate(benchmark, BATCH)


def test_scene_rendering(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    source = DATASETS.build(parse_spec("scenes[train=500,val=1,test=1]"))
    folders = iter(range(100))
    benchmark.pedantic(lambda: source.load(64, tmp_path / str(next(folders))), rounds=2)
    rate(benchmark, 502)

"""Speed of crafting: its three steps, and a whole round of them."""

from pathlib import Path

import pytest
import torch

from attacks.base import CraftContext
from attacks.crafting import Crafting
from attacks.hotflip import hotflip
from attacks.pgd import minimise_noise
from attacks.vocabulary import trigger_words
from tests.benchmarks.clock import Clock
from tests.benchmarks.workload import Workload
from victims.clip import clip_loss

pytestmark = pytest.mark.speed
_UNTIL_WARM = 2
"""Calls after which a large surrogate's step takes its lasting time on a CPU; the first two wait for new memory."""


def test_pgd_step(clock: Clock, load: Workload) -> None:
    frozen, attack = load.frozen, load.attack
    with torch.no_grad():
        text = frozen.encode_tokens(load.tokens)
    delta = torch.zeros_like(load.images, dtype=torch.int8)

    def loss(points: torch.Tensor, _: int) -> torch.Tensor:
        return clip_loss(frozen.encode_images(points), text, frozen.scale)

    # One step is over in milliseconds on a GPU: of such a call much would be its start and the wait for its end.
    count = attack.pgd_steps if load.images.is_cuda else 1

    def steps() -> torch.Tensor:
        return minimise_noise(load.images, delta, loss, eps=attack.eps, steps=count, step_size=attack.step_size)

    clock.model("PGD step", steps, load, rows=count * load.batch, flops=load.flops.pgd_step)


def test_hotflip_pass(clock: Clock, load: Workload) -> None:
    frozen, attack = load.frozen, load.attack
    with torch.no_grad():
        features = frozen.encode_images(load.images)
    words = torch.from_numpy(trigger_words(frozen.tokenizer, load.train, attack.vocabulary, seed=1))
    drawn = torch.randint(len(words), (load.batch, attack.k), generator=torch.Generator().manual_seed(0))
    words, trigger = words.to(frozen.device), words[drawn].to(frozen.device)
    clock.model(
        "HotFlip pass",
        lambda: hotflip(frozen, features, load.tokens, trigger, words, attack.candidates),
        load,
        rows=load.batch,
        flops=load.flops.hotflip_pass(load.tokens.shape[1] + attack.k, attack.k, attack.candidates),
    )


def test_surrogate_step(clock: Clock, load: Workload, tmp_path: Path) -> None:
    crafting = Crafting(load.attack, load.train, CraftContext(load.surrogate, seed=1, workdir=tmp_path))
    for _ in range(_UNTIL_WARM):
        crafting.train_surrogate(0)
    clock.model(
        "surrogate step",
        lambda: crafting.train_surrogate(0),
        load,
        rows=len(load.train),
        flops=load.flops.training(load.length + load.attack.k),
    )


def test_crafting_round(clock: Clock, load: Workload, tmp_path: Path) -> None:
    """For every batch a surrogate step, a HotFlip pass, the preset's PGD steps and the loss that closes the round."""
    attack = load.attack
    crafting = Crafting(attack, load.train, CraftContext(load.surrogate, seed=1, workdir=tmp_path))
    for _ in range(_UNTIL_WARM):
        crafting.train_surrogate(0)

    def round_() -> None:
        crafting.train_surrogate(0)
        crafting.perturb(0)

    clock.model(
        "crafting round",
        round_,
        load,
        rows=len(load.train),
        flops=load.flops.crafting_round(load.length + attack.k, attack.k, attack.candidates, attack.pgd_steps),
        warm=True,
    )

"""TAP: every image has another one as its target, and its noise moves it there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks import ATTACKS, CraftContext
from attacks.tap import Tap, derangement
from benchmark.core.errors import UsageError, VictimDiverged
from benchmark.core.seeding import numpy_generator
from benchmark.core.spec import parse_spec
from tests.small import make_clip, make_dataset, noise_of
from victims.clip import Clip

SMALL = Tap(surrogate_steps=6, pgd_steps=12, batch_size=8)


@pytest.mark.parametrize("count", [2, 3, 50])
def test_no_image_is_its_own_target(count: int) -> None:
    for seed in range(20):
        target = derangement(count, np.random.default_rng(seed))
        assert sorted(target) == list(range(count))
        assert (target != np.arange(count)).all()


def test_images_come_to_look_like_their_targets_captions() -> None:
    """As the trained surrogate sees them; no other model is built."""
    built: list[Clip] = []

    def surrogate(seed: int) -> Clip:
        built.append(make_clip(seed))
        return built[-1]

    train = make_dataset(20, 1)
    poison = SMALL.craft(train, CraftContext(surrogate, 3, Path()))
    assert poison.delta is not None
    (model,) = built
    frozen = model.for_inference()
    target = derangement(len(train), numpy_generator(3, "targets"))
    clean = torch.from_numpy(np.asarray(train.images[:]))
    moved = torch.from_numpy((np.asarray(train.images[:]).astype(int) + poison.delta).astype(np.uint8))
    with torch.no_grad():
        text = frozen.encode_tokens(frozen.tokenizer([own[0] for own in train.captions]))
        before, after = (frozen.encode_images(images) @ text.T for images in (clean, moved))
    rows = np.arange(len(train))
    gained = (after - before)[rows, target]
    assert (gained > 0).float().mean() > 0.9
    assert gained.mean() > 3 * (after - before).mean().abs()


def test_the_surrogate_trains_on_clean_data(monkeypatch: pytest.MonkeyPatch) -> None:
    import attacks.crafting

    seen: list[torch.Tensor] = []
    protected = attacks.crafting._protected

    def noticed(images: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        seen.append(delta)
        return protected(images, delta)

    monkeypatch.setattr(attacks.crafting, "_protected", noticed)
    SMALL.craft(make_dataset(20, 1), CraftContext(make_clip, 3, Path()))
    assert len(seen) == 6
    assert not any(delta.any() for delta in seen)


@pytest.mark.parametrize("spec", ["tap[step_size=9]", "tap[pgd_steps=0]"])
def test_bad_budgets_are_refused(spec: str) -> None:
    with pytest.raises(UsageError, match=r"attack tap: .* must be"):
        ATTACKS.build(parse_spec(spec))


def test_too_few_images_are_refused() -> None:
    with pytest.raises(UsageError, match="7 training rows are fewer than one crafting batch of 8"):
        SMALL.check(make_dataset(7, 1))


def test_a_surrogate_that_diverges_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attacks.tap.clip_loss", lambda images, *_: images.sum() * torch.nan)
    with pytest.raises(VictimDiverged, match="the surrogate's loss is nan in batch 1"):
        SMALL.craft(make_dataset(20, 1), CraftContext(make_clip, 3, Path()))


def test_twelve_steps_of_one_reach_the_bound() -> None:
    poison = SMALL.craft(make_dataset(20, 1), CraftContext(make_clip, 3, Path()))
    assert np.abs(noise_of(poison).astype(int)).max() == 8


def test_the_surrogate_has_the_optimizer_and_the_rates_that_it_is_told() -> None:
    seeds: list[int] = []

    def surrogate(seed: int) -> Clip:
        seeds.append(seed)
        return make_clip(seed)

    attack = replace(SMALL, surrogate_steps=1, optimizer="muon", lr=3e-3, matrix_lr=0.05, weight_decay=0)
    crafting, _ = attack.trained(make_dataset(20, 1), CraftContext(surrogate, 3, Path()))
    (seed,) = seeds
    start = make_clip(seed)

    def moved(name: str) -> torch.Tensor:
        return (crafting.model.model.get_parameter(name) - start.model.get_parameter(name)).detach()

    assert float(moved("ln_final.bias").abs().max()) == pytest.approx(3e-3, rel=1e-3)
    # Muon moves a tall matrix by the rate times the root of its aspect ratio, here 2.
    singular = torch.linalg.svdvals(moved("transformer.resblocks.0.mlp.c_fc.weight")) / 0.05 / 2
    assert 0.6 < float(singular[8]) <= float(singular[0]) < 1.4

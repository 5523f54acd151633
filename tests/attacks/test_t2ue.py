"""T2UE: noise from text alone, and that noise lowers the loss of images that the generator was never shown."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks import CraftContext, Poison
from attacks.t2ue import Generator, T2ue, encoded
from benchmark.core.seeding import seeded_globals
from benchmark.data import CaptionDataset
from tests.small import make_clip, make_dataset, noise_of
from victims.clip import Clip, clip_loss

SMALL = T2ue(surrogate_steps=2, steps=30, batch_size=8, channels=8, generator_lr=0.01, eps=16)


def craft(train: CaptionDataset, seed: int = 1, attack: T2ue = SMALL) -> tuple[Poison, Clip]:
    built: list[Clip] = []

    def surrogate(seed: int) -> Clip:
        built.append(make_clip(seed))
        return built[-1]

    poison = attack.craft(train, CraftContext(surrogate, seed, Path()))
    return poison, built[0].for_inference()


@pytest.fixture(scope="module")
def train() -> CaptionDataset:
    data = make_dataset(24, 2)
    return replace(data, images=np.full(data.images.shape, 128, dtype=np.uint8))


def loss_of(model: Clip, train: CaptionDataset, poison: Poison, images: np.ndarray) -> float:
    moved = (images.astype(int) + noise_of(poison)).clip(0, 255).astype(np.uint8)
    text = torch.stack([own[0] for own in encoded(model, train)])
    with torch.no_grad():
        return float(clip_loss(model.encode_images(torch.from_numpy(moved)), text, model.scale))


def test_noise_lowers_the_loss_on_images_that_the_generator_was_not_shown(train: CaptionDataset) -> None:
    poison, model = craft(train)
    losses = poison.provenance["loss_per_round"]
    assert len(losses) == 10
    assert losses[-1] < losses[0] - 0.5
    others = np.asarray(make_dataset(24, 1, seed=5).images) // 4 + 96
    shuffled = replace(poison, delta=np.roll(noise_of(poison), 1, axis=0))
    assert loss_of(model, train, poison, others) < loss_of(model, train, shuffled, others) - 0.3


def test_one_steps_move_is_that_of_adam_on_the_loss(train: CaptionDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam's first step moves every weight by the learning rate, against the sign of a gradient by differences."""
    import attacks.t2ue

    made: list[Generator] = []

    class Kept(Generator):
        def __init__(self, *sizes: int) -> None:
            super().__init__(*sizes)
            made.append(self)
            self.start = {name: value.clone() for name, value in self.state_dict().items()}
            self.seen: list[torch.Tensor] = []

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            self.seen.append(given.detach())
            return super().forward(given)

    monkeypatch.setattr(attacks.t2ue, "Generator", Kept)
    one = replace(SMALL, steps=1, batch_size=24)
    _, model = craft(train, attack=one)
    (generator,) = made
    moved = generator.last.bias.detach() - generator.start["last.bias"]
    torch.testing.assert_close(moved.abs(), torch.full((3,), 0.01), rtol=1e-3, atol=0)
    given, features = generator.seen[0], encoded(model, train)
    torch.testing.assert_close(given[:, :16].norm(dim=1), torch.ones(24))
    means = torch.nn.functional.normalize(torch.stack([own.mean(dim=0) for own in features]), dim=1)
    order = (given[:, None, :16] - means).norm(dim=2).argmin(dim=1)
    assert sorted(order.tolist()) == list(range(24))


def test_noise_depends_on_the_captions_and_not_on_the_image(train: CaptionDataset) -> None:
    poison, _ = craft(train)
    words = [[*train.captions[0]], *[list(own) for own in train.captions[1:]]]
    words[3] = words[0]
    same, _ = craft(replace(train, captions=words), attack=replace(SMALL, steps=1))
    delta = noise_of(same).astype(int)
    alike = np.corrcoef(delta[0].ravel(), delta[3].ravel())[0, 1]
    assert alike > np.corrcoef(delta[0].ravel(), delta[4].ravel())[0, 1]
    assert poison.largest <= 16
    assert poison.trigger is None


@pytest.mark.parametrize("side", [4, 30, 32])
def test_the_generator_makes_maps_of_any_side(side: int) -> None:
    with seeded_globals(1):
        generator = Generator(5, 3, 4, side)
        given = torch.randn(2, 8)
    assert generator(given).shape == (2, 3, side, side)
    assert len(generator.blocks) == {4: 0, 30: 3, 32: 3}[side]


def test_a_surrogate_from_a_checkpoint_stays_as_it_is(train: CaptionDataset) -> None:
    built: list[tuple[Clip, dict[str, torch.Tensor]]] = []

    def surrogate(seed: int) -> Clip:
        model = make_clip(seed)
        built.append((model, {name: value.clone() for name, value in model.model.visual.state_dict().items()}))
        return model

    replace(SMALL, surrogate_steps=0, steps=2).craft(train, CraftContext(surrogate, 1, Path()))
    ((model, before),) = built
    assert all(torch.equal(value, before[name]) for name, value in model.model.visual.state_dict().items())

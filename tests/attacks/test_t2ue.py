"""T2UE: noise from text alone, and that noise lowers the loss of images that the generator was never shown."""

import copy
import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attacks import CraftContext, Poison
from attacks.t2ue import Generator, T2ue, encoded
from benchmark.core.seeding import derive_seed, numpy_generator, seeded_globals, torch_generator
from benchmark.data import CaptionDataset
from tests.small import make_clip, make_dataset, noise_of
from victims.clip import Clip, clip_loss

SMALL = T2ue(surrogate_steps=0, steps=100, batch_size=8, channels=16, z=4, generator_lr=2e-3, eps=64)


@pytest.fixture(scope="module")
def grey() -> CaptionDataset:
    """Captions of images that show nothing."""
    data = make_dataset(24, 1)
    return replace(data, images=np.full(data.images.shape, 128, dtype=np.uint8))


@pytest.fixture(scope="module")
def knowing() -> Clip:
    """A model that has been trained on the images that the captions belong to."""
    teacher = replace(SMALL, surrogate_steps=40, lr=2e-3)
    crafting, _ = teacher.trained(make_dataset(24, 1), CraftContext(make_clip, 1, Path()))
    return crafting.model.for_inference()


def craft(attack: T2ue, train: CaptionDataset, model: Clip) -> Poison:
    return attack.craft(train, CraftContext(lambda seed: copy.deepcopy(model), 1, Path()))


def loss_of(model: Clip, train: CaptionDataset, images: np.ndarray, delta: np.ndarray) -> float:
    moved = torch.from_numpy((images.astype(int) + delta).clip(0, 255).astype(np.uint8))
    text = torch.cat(encoded(model, train))
    with torch.no_grad():
        return float(clip_loss(model.encode_images(moved), text, model.scale))


def test_noise_lowers_the_loss_on_images_that_the_generator_was_not_shown(grey: CaptionDataset, knowing: Clip) -> None:
    poison = craft(SMALL, grey, knowing)
    losses, delta = poison.provenance["loss_per_round"], noise_of(poison)
    assert len(losses) == 34  # passes of three batches, the last one unfinished
    assert losses[-1] < losses[0] - 0.8
    others = np.asarray(make_dataset(24, 1, seed=5).images) // 8 + 112
    own, anothers = (loss_of(knowing, grey, others, each) for each in (delta, np.roll(delta, 1, axis=0)))
    assert own < anothers - 0.3
    assert poison.largest <= 64
    assert poison.trigger is None


def test_the_generator_descends_the_loss_of_its_paper(grey: CaptionDataset, knowing: Clip) -> None:
    """InfoNCE of x + ε · tanh(G(text, z)) and the captions (Ma et al. 2025), by hand for the first step."""
    attack = replace(SMALL, steps=1, batch_size=24)
    poison = craft(attack, grey, knowing)
    text = torch.cat(encoded(knowing, grey))
    with seeded_globals(derive_seed(1, "generator")):
        generator = Generator(16, SMALL.z, SMALL.channels, 32)
    rows = numpy_generator(1, "generator rows").permutation(24)
    z = torch.randn(24, SMALL.z, generator=torch_generator(1, "z"))
    with torch.no_grad():
        noise = 64 / 255 * torch.tanh(generator(torch.cat([4 * text[rows], z], dim=1)))
        features = knowing.encode_images((128 / 255 + noise).clamp(0, 1))
        exponents = (knowing.scale * features @ text[rows].T).exp()
        own = exponents.diag()
        expected = -((own / exponents.sum(0)).log() + (own / exponents.sum(1)).log()).mean() / 2
    assert poison.provenance["loss_per_round"] == [pytest.approx(float(expected), rel=1e-4)]


def test_both_the_text_and_z_decide_the_noise(grey: CaptionDataset, knowing: Clip) -> None:
    """Texts are unit vectors, and z is eleven times as long: unscaled, a text would change next to nothing."""
    with seeded_globals(1):
        generator = Generator(16, 128, 16, 32)
    text = torch.stack([own.mean(dim=0) for own in encoded(knowing, grey)])
    made = []
    for number in range(8):  # the same z for all texts
        draws = torch.Generator()
        monotone = torch.randn(1, 128, generator=draws.manual_seed(number)).expand(len(text), -1)
        with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn", lambda *size, generator, z=monotone: z)
            made.append(replace(SMALL, z=128).noise(generator, text, draws))
    noise = torch.stack(made).flatten(2)  # z, text, pixels
    whole = noise.flatten(0, 1).var(dim=0).mean()
    assert noise.var(dim=1).mean() > 0.05 * whole
    assert noise.var(dim=0).mean() > 0.05 * whole


def test_the_generator_reads_the_mean_of_an_images_captions(
    grey: CaptionDataset, knowing: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its first step moves weights by Adam's learning rate. What is published has a z that the seed decides."""
    import attacks.t2ue

    class Kept(Generator):
        def __init__(self, *sizes: int) -> None:
            super().__init__(*sizes)
            made.append(self)
            self.before, self.given = self.bias(), list[torch.Tensor]()

        def bias(self) -> torch.Tensor:
            return self.state_dict()["last.bias"].clone()

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            self.given.append(given.detach())
            return super().forward(given)

    made: list[Kept] = []
    monkeypatch.setattr(attacks.t2ue, "Generator", Kept)
    train = replace(grey, captions=[[own[0], "a red boat"] for own in grey.captions])
    craft(replace(SMALL, steps=1, batch_size=24), train, knowing)
    (generator,) = made
    torch.testing.assert_close((generator.bias() - generator.before).abs(), torch.full((3,), 2e-3), rtol=1e-3, atol=0)
    trained_on, published = (given[:, :16] for given in generator.given)
    means = 4 * torch.stack([own.sum(dim=0) / own.sum(dim=0).norm() for own in encoded(knowing, train)])
    torch.testing.assert_close(published, means)
    assert sorted((trained_on[:, None] - means).norm(dim=2).argmin(dim=1).tolist()) == list(range(24))
    z, other = (torch.randn(24, SMALL.z, generator=torch_generator(1, stage)) for stage in ("published z", "z"))
    torch.testing.assert_close(generator.given[1][:, 16:], z)
    torch.testing.assert_close(generator.given[0][:, 16:], other)


def test_the_generator_is_that_of_plain_operations() -> None:
    with seeded_globals(1):
        generator, given = Generator(5, 3, 2, 8), torch.randn(4, 8)
    block: Any = generator.blocks[0]
    text, z = given.split((5, 3), dim=1)
    maps = (z @ generator.first.weight.T + generator.first.bias).view(4, 2, 4, 4)
    maps = maps.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    scale, shift = (text @ block.affine.weight.T + block.affine.bias)[:, :, None, None].split(2, dim=1)
    mean, variance = maps.mean((2, 3), keepdim=True), maps.var((2, 3), correction=0, keepdim=True)
    styled = (1 + scale) * (maps - mean) / (variance + 1e-5).sqrt() + shift

    def convolved(maps: torch.Tensor, layer: torch.nn.Conv2d) -> torch.Tensor:
        leaky = torch.where(maps > 0, maps, 0.2 * maps)
        return torch.nn.functional.conv2d(leaky, layer.weight, layer.bias, padding=1)

    expected = convolved(maps + convolved(styled, block.convolution), generator.last)
    torch.testing.assert_close(generator(given), expected)


@pytest.mark.parametrize(("side", "blocks"), [(4, 1), (30, 3), (32, 3), (224, 6)])
def test_the_generator_makes_maps_of_any_side(side: int, blocks: int) -> None:
    with seeded_globals(1):
        generator = Generator(5, 3, 2, side)
        given = torch.randn(2, 8)
    assert generator(given).shape == (2, 3, side, side)
    assert len(generator.blocks) == blocks


def test_a_generator_of_many_rows_makes_the_same_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its maps are computed again where a gradient is taken, in place of being kept."""
    with seeded_globals(1):
        generator, given = Generator(5, 3, 2, 32), torch.randn(7, 8)
    rows, forward = list[int](), Generator.forward

    def counted(self: Generator, part: torch.Tensor) -> torch.Tensor:
        rows.append(len(part))
        return forward(self, part)

    monkeypatch.setattr(Generator, "forward", counted)
    made, gradients = list[torch.Tensor](), list[tuple[torch.Tensor, ...]]()
    for values in (2**29, 3 * 2 * 32 * 32):
        monkeypatch.setattr("attacks.t2ue._MOST_VALUES", values)
        made.append(generator.of_many(given))
        gradients.append(torch.autograd.grad(made[-1].square().sum(), list(generator.parameters())))
    assert rows == [7, 3, 3, 1, 1, 3, 3]
    assert torch.allclose(made[0], made[1], atol=1e-6)
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_surrogate_from_a_checkpoint_stays_as_it_is(grey: CaptionDataset) -> None:
    model = make_clip(1)
    before = {name: value.clone() for name, value in model.model.visual.state_dict().items()}
    replace(SMALL, steps=2).craft(grey, CraftContext(lambda seed: model, 1, Path()))
    assert all(torch.equal(value, before[name]) for name, value in model.model.visual.state_dict().items())


def test_the_generator_learns_from_all_captions_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = make_dataset(24, 3), make_clip(3).for_inference()
    numbers = []
    first = torch.stack([own[0] for own in encoded(model, data)])

    def noted(images: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        numbers.extend((text[:, None] == first[None]).all(dim=2).any(dim=1).tolist())
        return clip_loss(images, text, scale)

    monkeypatch.setattr("attacks.t2ue.clip_loss", noted)
    craft(replace(SMALL, steps=30), data, model)
    assert 0.2 < np.mean(numbers) < 0.5  # of the first of three captions


def test_noise_is_published_to_the_nearest_whole_step(
    grey: CaptionDataset, knowing: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noise(self: T2ue, generator: Generator, condition: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        steps = torch.tensor([2.6, -2.6, 1.2]).view(3, 1, 1).expand(len(condition), 3, 32, 32)
        return steps + 0 * generator.last.weight.sum()

    monkeypatch.setattr(T2ue, "noise", noise)
    delta = noise_of(craft(replace(SMALL, steps=1), grey, knowing))
    assert [np.unique(delta[:, channel]).tolist() for channel in range(3)] == [[3], [-3], [1]]


def test_the_loss_of_a_pass_is_the_mean_of_its_steps(
    grey: CaptionDataset, knowing: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of seven steps, three a pass; the last pass is unfinished."""
    count = itertools.count(1)
    monkeypatch.setattr("attacks.t2ue.clip_loss", lambda images, *_: images.sum() * 0 + float(next(count)))
    assert craft(replace(SMALL, steps=7), grey, knowing).provenance["loss_per_round"] == [2, 5, 7]


def test_adams_rate_falls_to_zero_as_a_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no step sees the gradient of the last one."""
    rates: list[float] = []

    class Noting(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            (group,) = self.param_groups
            rates.append(group["lr"])
            assert all(weight.grad.isfinite().all() for weight in group["params"])
            super().step(closure)
            for weight in group["params"]:
                weight.grad.fill_(torch.nan)

    monkeypatch.setattr(torch.optim, "Adam", Noting)
    replace(SMALL, steps=8).craft(make_dataset(24, 1), CraftContext(make_clip, 1, Path()))
    assert rates == pytest.approx([1e-3 * (1 + math.cos(math.pi * step / 8)) for step in range(8)])

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
from victims.tokens import Tokenizer

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


def test_a_step_descends_the_loss_of_the_paper_at_the_targets_captions() -> None:
    """x − ε · sign ∇ of the loss of each image and its target's caption (Fowl et al. 2021, section 3.2), by hand.

    The loss is InfoNCE's (Radford et al. 2021, figure 3) of the whole set, which is one batch here.
    """
    train = make_dataset(16, 1)
    plain = make_clip(5).eval()
    attack = Tap(surrogate_steps=0, pgd_steps=1, step_size=6, eps=6, batch_size=16)
    delta = noise_of(attack.craft(train, CraftContext(lambda seed: make_clip(5), 3, Path())))
    target = derangement(len(train), numpy_generator(3, "targets"))
    pixels = torch.from_numpy(np.asarray(train.images[:])).float().requires_grad_()
    with torch.no_grad():
        text = plain.encode_tokens(plain.tokenizer([train.captions[other][0] for other in target]))
    exponents = (plain.scale.detach() * plain.encode_images(pixels / 255) @ text.T).exp()
    own = exponents.diag()
    (gradient,) = torch.autograd.grad(-((own / exponents.sum(0)).log() + (own / exponents.sum(1)).log()).sum(), pixels)
    expected = (pixels - 6 * gradient.sign()).clamp(0, 255) - pixels
    clear = gradient.abs() > gradient.abs().quantile(0.2)  # rounding turns the sign of the others
    agree = (torch.from_numpy(delta).float() == expected)[clear]
    assert agree.float().mean() > 0.999


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

    attack = replace(SMALL, surrogate_steps=1, optimizer="muon", lr=3e-3, matrix_lr=0.05, weight_decay=0.7)
    crafting, _ = attack.trained(make_dataset(20, 1), CraftContext(surrogate, 3, Path()))
    assert crafting.optimizer.param_groups[0]["weight_decay"] == 0.7
    (seed,) = seeds
    start = make_clip(seed)

    def moved(name: str) -> torch.Tensor:
        return (crafting.model.model.get_parameter(name) - start.model.get_parameter(name)).detach()

    assert float(moved("ln_final.bias").abs().max()) == pytest.approx(3e-3, rel=1e-3)
    # Muon moves a tall matrix by the rate times the root of its aspect ratio, here 2.
    singular = torch.linalg.svdvals(moved("transformer.resblocks.0.mlp.c_fc.weight")) / 0.05 / 2
    assert 0.6 < float(singular[8]) <= float(singular[0]) < 1.4


def test_the_target_is_any_caption_of_another_image(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[str]] = []
    tokens_of = Tokenizer.__call__

    def noted(self: Tokenizer, captions: list[str]) -> torch.Tensor:
        read.append(captions)
        return tokens_of(self, captions)

    monkeypatch.setattr(Tokenizer, "__call__", noted)
    train = replace(make_dataset(60, 1), captions=[[f"{row} one", f"{row} two"] for row in range(60)])
    replace(SMALL, surrogate_steps=0, pgd_steps=1).craft(train, CraftContext(make_clip, 3, Path()))
    owners, numbers = zip(*(caption.split() for caption in read[-1]), strict=True)
    assert sorted(map(int, owners)) == list(range(60))
    assert all(int(owner) != row for row, owner in enumerate(owners))
    assert 15 < numbers.count("two") < 45  # four standard deviations of a binomial


def test_the_crafting_loss_is_that_of_the_published_images_and_their_targets() -> None:
    """The mean of two batches, in the rows' order of the attack."""
    train = make_dataset(16, 1)
    attack = Tap(surrogate_steps=0, pgd_steps=4, batch_size=8)
    poison = attack.craft(train, CraftContext(lambda seed: make_clip(5), 3, Path()))
    generator = numpy_generator(3, "targets")
    target = derangement(16, generator)
    captions = [train.captions[other][generator.integers(1)] for other in target]
    published, frozen, losses = poison.protect(train), make_clip(5).for_inference(), []
    for rows in np.split(generator.permutation(16), 2):
        with torch.no_grad():
            text = frozen.encode_tokens(frozen.tokenizer([captions[row] for row in rows]))
            logits = frozen.scale * frozen.encode_images(published.batch(rows)) @ text.T
        both = (logits.log_softmax(0) + logits.log_softmax(1)).diag()
        losses.append(float(-both.mean() / 2))
    assert abs(losses[0] - losses[1]) > 1e-3
    assert poison.provenance["loss_per_round"] == [pytest.approx(np.mean(losses), rel=1e-4)]

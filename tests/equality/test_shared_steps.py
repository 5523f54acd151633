"""What an idle CPU takes over of training, crafting and evaluation changes no bit, and it does take it over."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

import victims.fast.late_gradients as late
from attacks import ATTACKS, CraftContext
from benchmark.core.spec import parse_spec
from defenses import DEFENSES
from tests.idle import idling
from tests.small import make_clip, make_clip_with_dropout, make_dataset, noise_of
from victims.clip import Clip, clip_loss, fixed_model
from victims.evaluate import evaluate
from victims.recipe import Recipe
from victims.training import train

Tensors = dict[str, torch.Tensor]
MAIN = threading.main_thread()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> set[threading.Thread]:
    """Those that compute the gradients of filters."""
    found: set[threading.Thread] = set()
    plain = late._from_patches

    def seen(*arguments: torch.Tensor) -> torch.Tensor:
        found.add(threading.current_thread())
        return plain(*arguments)

    monkeypatch.setattr(late, "_from_patches", seen)
    return found


def batch(clip: Clip) -> tuple[torch.Tensor, torch.Tensor]:
    dataset = make_dataset(8)
    return dataset.batch(np.arange(8)), clip.tokenizer([captions[0] for captions in dataset.captions])


def gradients(clip: Clip) -> Tensors:
    return {name: weight.grad for name, weight in clip.named_parameters() if weight.grad is not None}


def assert_same(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    assert [name for name, value in found.items() if not torch.equal(value, expected[name])] == []


@pytest.mark.parametrize("defense", ["none", "adv-training[steps=2]", "mixup", "cleanclip", "safeclip", "roclip"])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_training_is_the_same(
    optimizer: Literal["adamw", "muon"], defense: str, threads: set[threading.Thread]
) -> None:
    recipe = Recipe(epochs=2, batch_size=8, lr=1e-3, rows="images", precision="fp32", optimizer=optimizer)
    weights, losses = [], []
    for idle in (0, 1):
        threads.clear()
        clip = make_clip()
        with idling(idle):
            log = train(clip, make_dataset(), recipe, DEFENSES.build(parse_spec(defense)), seed=1)
        assert (threads == {MAIN}) == (not idle)
        weights.append(dict(clip.state_dict()))
        losses.append(log.loss)
    assert_same(weights[1], weights[0])
    assert losses[1] == losses[0]


@pytest.mark.parametrize("make", [make_clip, make_clip_with_dropout], ids=["plain", "dropout"])
def test_pairs_have_the_features_and_the_gradient_of_one_after_the_other(make: Callable[[], Clip]) -> None:
    found = []
    for idle in (0, 1):
        clip = make().train()
        torch.manual_seed(3)
        with idling(idle):
            features, text = clip.encode_pairs(*batch(clip))
            clip.backward(clip_loss(features, text, clip.scale))
        found.append(gradients(clip) | {"features": features.detach(), "text": text.detach()})
    assert_same(found[1], found[0])
    assert len(found[0]) > 60


def test_a_cpu_may_be_wanted_elsewhere_before_the_gradient_is() -> None:
    found = []
    for idle in (0, 1):
        clip = make_clip().train()
        with idling(idle):
            features, text = clip.encode_pairs(*batch(clip))
        clip.backward(clip_loss(features, text, clip.scale))
        found.append(gradients(clip))
    assert_same(found[1], found[0])


def test_a_gradient_that_would_lack_the_text_tower_is_refused() -> None:
    clip = make_clip().train()
    with idling(1):
        features, text = clip.encode_pairs(*batch(clip))
        loss = clip_loss(features, text, clip.scale)
        with pytest.raises(RuntimeError, match=r"is for Clip\.backward alone"):
            loss.backward()


@pytest.mark.parametrize("uses", [1, 2, 3])
def test_uses_of_a_weight_add_up(uses: int) -> None:
    found = []
    for idle in (0, 1):
        clip = make_clip().train()
        images, tokens = batch(clip)
        with idling(idle):
            loss = torch.zeros(())
            for number in range(uses):
                features = clip.encode_images(images.roll(number, dims=0))
                loss = loss + (1 + number) * clip_loss(features, clip.encode_tokens(tokens), clip.scale)
            clip.backward(loss)
        found.append(gradients(clip))
    assert_same(found[1], found[0])


def test_gradients_are_added_to_those_that_are_there() -> None:
    found = []
    for idle in (0, 1):
        clip = make_clip().train()
        images, tokens = batch(clip)
        with idling(idle):
            for shift in (0, 1):
                features = clip.encode_images(images.roll(shift, dims=0))
                clip.backward(clip_loss(features, clip.encode_tokens(tokens), clip.scale))
        found.append(gradients(clip))
    assert_same(found[1], found[0])


def test_an_error_of_the_second_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: torch.Tensor) -> torch.Tensor:
        raise ArithmeticError(threading.current_thread().name)

    clip = make_clip().train()
    images, tokens = batch(clip)
    with idling(1), monkeypatch.context() as patch:
        patch.setattr(late, "_from_patches", fail)
        with pytest.raises(ArithmeticError):
            clip.backward(clip_loss(clip.encode_images(images), clip.encode_tokens(tokens), clip.scale))
    clip.zero_grad()
    (clip.encode_images(images).sum()).backward()  # nothing is left of the pass that failed
    assert clip.model.get_parameter("visual.layer4.0.conv2.weight").grad is not None


@pytest.mark.parametrize("attack", ["mem3", "em-wordwise[restarts=1,steps=4]", "tap"])
def test_a_poison_is_the_same(attack: str) -> None:
    small = {"rounds": 2, "surrogate_steps": 4, "pgd_steps": 2, "batch_size": 8, "hotflip_rounds": 1, "vocabulary": 20}
    found = []
    for idle in (0, 1):
        built = ATTACKS.build(parse_spec(attack), small)
        with idling(idle):
            found.append(built.craft(make_dataset(), CraftContext(make_clip, 1, Path())))
    assert (noise_of(found[0]) == noise_of(found[1])).all()
    assert found[0].trigger == found[1].trigger


def test_scores_are_the_same() -> None:
    found = []
    for idle in (0, 1):
        with idling(idle):
            found.append(evaluate(make_clip(), make_dataset(40)))
    assert found[0] == found[1]


def test_a_fixed_model_gives_gradients_to_images_alone(threads: set[threading.Thread]) -> None:
    clip = make_clip().train()
    frozen = clip.model.get_parameter("visual.conv2.weight").requires_grad_(False)
    images = batch(clip)[0].float().div(255).requires_grad_()

    def loss() -> torch.Tensor:
        return clip.encode_images(images).square().mul(torch.arange(16)).sum()

    (expected,) = torch.autograd.grad(loss(), images)
    threads.clear()
    with fixed_model(clip):
        fixed = loss()
    fixed.backward()
    assert images.grad is not None
    assert torch.equal(images.grad, expected)
    assert gradients(clip) == {}
    assert threads == set()  # nor was any of them computed
    assert [weight for weight in clip.parameters() if not weight.requires_grad] == [frozen]

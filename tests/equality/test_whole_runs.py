"""Crafting and training by the fast paths against plain versions of the same algorithms, in fp64 to rounding."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks.hotflip import hotflip
from attacks.pgd import minimise_noise
from attacks.placement import FRONT
from benchmark.data import CaptionDataset
from defenses.base import Defense, HookContext
from tests.equality import plain
from tests.small import WORDS, make_dataset, small_clip
from victims.clip import Clip, clip_loss
from victims.recipe import Recipe
from victims.training import train

CPU = torch.device("cpu")


class InDouble(Defense):
    """Hands the images over in fp64."""

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        return (images.double() * 255).round() / 255


def captioned(clip: Clip, rows: int) -> tuple[torch.Tensor, CaptionDataset]:
    data = make_dataset(rows, 1)
    return clip.tokenizer([own[0] for own in data.captions]), data


def test_hotflip_chooses_the_triggers_of_the_plain_search() -> None:
    slow = small_clip().eval()
    fast = Clip(small_clip(), CPU, "fp32").for_inference()
    tokens, data = captioned(fast, 6)
    images = torch.from_numpy(data.images).double() / 255
    vocabulary = torch.tensor([fast.tokenizer.encode(word)[0] for word in WORDS])
    trigger = vocabulary[torch.randint(len(WORDS), (6, 3), generator=torch.Generator().manual_seed(1))]
    with torch.no_grad():
        features = plain.image_features(slow, images)
    found = hotflip(fast, fast.encode_images(images), tokens, trigger, vocabulary, candidates=4)
    captions = [own[0] for own in data.captions]
    assert torch.equal(found, plain.hotflip(slow, features, captions, FRONT, trigger, vocabulary, candidates=4))
    assert (found != trigger).sum() > 4


def test_noise_equals_that_of_the_plain_descent() -> None:
    slow = small_clip().eval()
    fast = Clip(small_clip(), CPU, "fp32").for_inference()
    tokens, data = captioned(fast, 8)
    images = torch.from_numpy(data.images)
    with torch.no_grad():
        texts = plain.text_features(slow, tokens)

    def loss(points: torch.Tensor, step: int) -> torch.Tensor:
        return clip_loss(fast.encode_images(points.double()), texts, fast.scale)

    start = torch.randint(-3, 4, images.shape, generator=torch.Generator().manual_seed(0)).to(torch.int8)
    start = ((images.int() + start).clamp(0, 255) - images.int()).to(torch.int8)
    found = minimise_noise(images, start, loss, eps=8, steps=3, step_size=2)
    expected = plain.minimise_noise(slow, images, start, texts, eps=8, steps=3, size=2)
    # The points are written in fp32 (whole numbers / 255): a gradient within that rounding of zero may turn over.
    assert (found != expected).double().mean() < 1e-3
    assert (found - start).abs().max() == 6


@pytest.mark.parametrize("resolution", [32, 64])
def test_one_pgd_step_in_fp32_agrees_in_sign(resolution: int) -> None:
    slow = small_clip(resolution, dtype=torch.float32).eval()
    fast = Clip(small_clip(resolution, dtype=torch.float32), CPU, "fp32").for_inference()
    data = make_dataset(32, 1, resolution)
    tokens = fast.tokenizer([own[0] for own in data.captions])
    with torch.no_grad():
        texts = plain.text_features(slow, tokens)
    points = (torch.from_numpy(data.images).float() / 255).requires_grad_()
    (expected,) = torch.autograd.grad(
        plain.contrastive_loss(plain.image_features(slow, points), texts, slow.logit_scale.exp()), points
    )
    (found,) = torch.autograd.grad(
        clip_loss(fast.encode_images(points), fast.encode_tokens(tokens), fast.scale), points
    )
    assert (found.sign() == expected.sign()).double().mean() >= 0.999


def test_a_victim_trains_to_the_plain_loops_weights() -> None:
    data = make_dataset(40, 3)
    recipe = Recipe(
        epochs=3, batch_size=8, lr=1e-3, beta1=0.8, beta2=0.98, weight_decay=0.3, rows="images", precision="fp32"
    )
    slow, fast = small_clip(), Clip(small_clip(), CPU, "fp32")
    expected = plain.train(slow, data, recipe, seed=5)
    log = train(fast, data, recipe, InDouble(), seed=5)
    assert log.loss == pytest.approx(expected, abs=1e-5)  # the loss is summed up in fp32
    trained = fast.model.state_dict()
    start = small_clip().state_dict()
    for name, weight in slow.state_dict().items():
        torch.testing.assert_close(trained[name], weight, rtol=1e-6, atol=1e-8, msg=name)
        assert not torch.equal(weight, start[name]) or name.endswith("attn_mask")


def test_a_longer_epoch_brings_in_new_tokens() -> None:
    # One caption of each image an epoch: tokens turn up late, after others have momentum.
    rare = "fox bird tent key bell drum fish wolf bear lion duck frog goat lamb crow hen".split()
    data = replace(make_dataset(16), captions=[["sun", f"moon {word}"] for word in rare])
    recipe = Recipe(
        epochs=4, batch_size=8, lr=1e-3, beta1=0.8, beta2=0.98, weight_decay=0.3, rows="images", precision="fp32"
    )
    slow, fast = small_clip(), Clip(small_clip(), CPU, "fp32")
    expected = plain.train(slow, data, recipe, seed=1)
    assert train(fast, data, recipe, InDouble(), seed=1).loss == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(
        fast.token_embedding.detach(), slow.token_embedding.weight.detach(), rtol=1e-6, atol=1e-8
    )
    assert np.isfinite(expected).all()

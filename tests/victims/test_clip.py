"""The CLIP wrapper: the same function as open_clip's own, only faster."""

import logging
import pickle
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F

from benchmark.core.errors import UsageError
from benchmark.core.precision import Precision
from benchmark.core.spec import parse_spec
from tests.small import PRECISIONS, make_clip, small_clip
from victims.architecture import Architecture, model_names
from victims.clip import Clip, clamp_scale, clip_loss, fixed_model
from victims.fast.text import text_features

CAPTIONS = ["a red dog", "two cats !!! and one more cat by the old house", "sun"]


def model_of(clip: Clip) -> Any:
    """open_clip's own, whose class depends on the architecture."""
    return clip.model


def test_trimmed_plain_text_forward_equals_open_clips() -> None:
    clip = make_clip(dtype=torch.float64).eval()
    expected = F.normalize(model_of(clip).encode_text(open_clip.tokenize(CAPTIONS)), dim=-1)
    found = clip.encode_tokens(clip.tokenizer(CAPTIONS))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_text_gradients_equal_open_clips() -> None:
    clip = make_clip(dtype=torch.float64)
    weights = clip.model.get_parameter("transformer.resblocks.0.attn.in_proj_weight")
    expected = torch.autograd.grad(model_of(clip).encode_text(open_clip.tokenize(CAPTIONS)).square().sum(), weights)[0]
    found = torch.autograd.grad(text_features(clip.tower, clip.tokenizer(CAPTIONS)).square().sum(), weights)[0]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("plain", [False, True])
def test_embeddings_in_place_of_ids(plain: bool) -> None:
    clip = make_clip().eval()
    clip.plain = plain
    tokens = clip.tokenizer(CAPTIONS)
    expected = clip.encode_tokens(tokens)
    torch.testing.assert_close(clip.encode_tokens(tokens, clip.token_embedding[tokens]), expected, rtol=0, atol=0)
    others = clip.token_embedding[tokens.roll(1, 0)]
    assert not torch.equal(clip.encode_tokens(tokens, others), expected)
    torch.testing.assert_close(clip.encode_tokens(tokens), expected, rtol=0, atol=0)  # no trace is left


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_plain_copy_for_inference_is_the_same_network(precision: Precision) -> None:
    clip = make_clip(precision=precision)
    clip.plain = True
    frozen = clip.train().for_inference()
    assert [type(module) for module in frozen.modules()] == [type(module) for module in clip.modules()]
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    pixels = torch.rand(2, 3, 32, 32, requires_grad=True)
    expected = clip.eval().encode_images(pixels)
    torch.testing.assert_close(frozen.encode_images(pixels), expected, rtol=0, atol=0)
    assert not any(module.training for module in frozen.modules())
    (gradient,) = torch.autograd.grad(frozen.encode_images(pixels)[:, 0].sum(), pixels)
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", ["MobileCLIP-S1", "ViT-S-32-alt"])
def test_other_text_towers_equal_open_clips(name: str) -> None:
    # One with attention in both directions (padding matters), one with a plain causal tower.
    clip = Architecture(name).build(0, torch.device("cpu"), "fp32").eval()
    with torch.no_grad():
        expected = model_of(clip).encode_text(open_clip.tokenize(CAPTIONS), normalize=True)
        torch.testing.assert_close(clip.encode_tokens(clip.tokenizer(CAPTIONS)), expected, rtol=0, atol=1e-5)


def test_images_are_normalised_inside() -> None:
    clip = make_clip().eval()
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    expected = model_of(clip).encode_image((pixels.float() / 255 - mean) / std, normalize=True)
    torch.testing.assert_close(clip.encode_images(pixels), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(clip.encode_images(pixels.float() / 255), expected, rtol=0, atol=1e-5)


def test_a_tower_that_names_its_mean_and_deviation_gets_images_normalised_by_them() -> None:
    model: Any = small_clip(dtype=torch.float32)
    model.visual.image_mean, model.visual.image_std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    clip, pixels = Clip(model, torch.device("cpu"), "fp32").eval(), torch.rand(3, 3, 32, 32)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    expected = model.encode_image((pixels - mean) / std, normalize=True)
    torch.testing.assert_close(clip.encode_images(pixels), expected, rtol=0, atol=1e-5)


def test_folded_batchnorm_is_the_same_function_with_the_same_gradient() -> None:
    clip = make_clip(dtype=torch.float64).eval()
    frozen = clip.for_inference()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in frozen.modules())
    assert not any(p.requires_grad for p in frozen.parameters())
    pixels = torch.rand(4, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 16, dtype=torch.float64)
    slow, fast = clip.encode_images(pixels), frozen.encode_images(pixels)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-10)
    slow_gradient = torch.autograd.grad((slow * weight).sum(), pixels)[0]
    fast_gradient = torch.autograd.grad((fast * weight).sum(), pixels)[0]
    torch.testing.assert_close(fast_gradient, slow_gradient, rtol=1e-8, atol=1e-10)


def test_folding_leaves_the_model_alone() -> None:
    clip = make_clip().train()
    before = {name: value.clone() for name, value in clip.state_dict().items()}
    clip.for_inference()
    assert clip.training
    assert all(torch.equal(value, before[name]) for name, value in clip.state_dict().items())


def test_a_frozen_copy_is_copied_no_more_and_a_model_that_trains_on_is() -> None:
    clip, pixels = make_clip(), torch.rand(2, 3, 32, 32)
    frozen = clip.for_inference()
    assert frozen.for_inference() is frozen
    before = frozen.encode_images(pixels)
    with torch.no_grad():
        clip.model.get_parameter("visual.conv1.weight").mul_(-1)
    later = clip.for_inference()
    assert later is not clip
    assert not torch.equal(later.encode_images(pixels), before)
    assert torch.equal(frozen.encode_images(pixels), before)


def test_frozen_statistics_use_the_batch_and_change_nothing() -> None:
    clip = make_clip().train()
    pixels = torch.rand(6, 3, 32, 32)
    before = {name: value.clone() for name, value in clip.state_dict().items()}
    with fixed_model(clip):
        found = clip.encode_images(pixels)
        # Shared among processes, a batch norm in bf16 fails without them (PyTorch issue 96203).
        norms = [module for module in clip.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        assert all(norm.track_running_stats and norm.running_mean is not None for norm in norms)
    assert all(torch.equal(value, before[name]) for name, value in clip.state_dict().items())
    torch.testing.assert_close(found, clip.encode_images(pixels))
    assert not torch.equal(clip.model.get_buffer("visual.bn1.running_mean"), before["model.visual.bn1.running_mean"])


def test_loss_by_hand() -> None:
    images = torch.eye(2)
    texts = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # logits, scale 2: [[2, 1.2], [0, 1.6]]
    rows = [2 - torch.tensor([2.0, 1.2]).logsumexp(0), 1.6 - torch.tensor([0.0, 1.6]).logsumexp(0)]
    columns = [2 - torch.tensor([2.0, 0.0]).logsumexp(0), 1.6 - torch.tensor([1.2, 1.6]).logsumexp(0)]
    expected = -(rows[0] + rows[1] + columns[0] + columns[1]) / 4
    assert clip_loss(images, texts, torch.tensor(2.0)) == pytest.approx(float(expected), abs=1e-6)
    assert clip_loss(images, texts, torch.tensor(2.0), torch.eye(2)) == pytest.approx(float(expected), abs=1e-6)


def test_loss_of_each_image_and_its_caption_by_hand() -> None:
    images = torch.eye(2)
    texts = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # logits, scale 2: [[2, 1.2], [0, 1.6]]
    first = torch.tensor([2.0, 1.2]).logsumexp(0) + torch.tensor([2.0, 0.0]).logsumexp(0) - 2 * 2
    second = torch.tensor([0.0, 1.6]).logsumexp(0) + torch.tensor([1.2, 1.6]).logsumexp(0) - 2 * 1.6
    for targets in (None, torch.eye(2)):
        found = clip_loss(images, texts, torch.tensor(2.0), targets, reduction="none")
        torch.testing.assert_close(found, torch.stack([first, second]) / 2)


def test_the_loss_that_a_passage_climbs_is_of_each_image_where_it_asks_for_that() -> None:
    clip, images = make_clip().eval(), torch.rand(4, 3, 32, 32)
    loss = clip._loss_against(F.normalize(torch.randn(4, 16), dim=1))
    each, mean = loss(images, "none"), loss(images, "mean")
    assert each.shape == (4,)
    assert float(each.mean()) == pytest.approx(float(mean), rel=1e-5)


def test_soft_targets_by_hand() -> None:
    logits = 3 * torch.eye(3) @ torch.eye(3)
    targets = 0.7 * torch.eye(3) + 0.3 * torch.eye(3)[[1, 2, 0]]
    expected = -(targets * logits.log_softmax(1)).sum() / 6 - (targets * logits.log_softmax(0)).sum() / 6
    found = clip_loss(torch.eye(3), torch.eye(3), torch.tensor(3.0), targets)
    assert found == pytest.approx(float(expected), abs=1e-6)


def test_texts_have_the_targets_of_their_columns() -> None:
    """Mixup's targets are not symmetric: in the text→image half, row j holds column j of the targets."""
    images, texts = F.normalize(torch.tensor([[1.0, 0.2], [0.3, 1.0], [-1.0, 0.5]]), dim=1), torch.eye(3)[:, :2]
    texts = F.normalize(texts + 0.1, dim=1)
    targets = 0.7 * torch.eye(3) + 0.3 * torch.eye(3)[[1, 2, 0]]
    assert not torch.equal(targets, targets.T)
    logits = 2.0 * images @ texts.T
    log_rows = logits - logits.exp().sum(dim=1, keepdim=True).log()
    log_columns = logits - logits.exp().sum(dim=0, keepdim=True).log()
    expected = -((targets * log_rows).sum() + (targets * log_columns).sum()) / 6
    assert float(clip_loss(images, texts, torch.tensor(2.0), targets)) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(("log_scale", "clamped"), [(9.0, 100.0), (-3.0, 1.0), (2.0, 7.389056)])
def test_the_logit_scale_stays_between_1_and_100(log_scale: float, clamped: float) -> None:
    clip = make_clip()
    with torch.no_grad():
        clip.log_scale.fill_(log_scale)
    clamp_scale(clip)
    assert float(clip.scale) == pytest.approx(clamped, rel=1e-5)


def test_weights_come_from_the_seed() -> None:
    one, same, other = (Architecture("tiny").build(seed, torch.device("cpu")).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not torch.equal(one["model.visual.conv1.weight"], other["model.visual.conv1.weight"])


def test_a_local_checkpoint_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell leaves ~ alone within brackets."""
    monkeypatch.setenv("HOME", str(tmp_path))
    source = Architecture("tiny").build(1, torch.device("cpu"))
    torch.save(source.model.state_dict(), tmp_path / "tiny.pt")
    for path in (f"{tmp_path}/tiny.pt", "~/tiny.pt"):
        loaded = Architecture.from_spec(parse_spec(f"tiny[pretrained={path}]")).build(2, torch.device("cpu"))
        one, other = (clip.model.get_parameter("visual.conv1.weight") for clip in (loaded, source))
        assert torch.equal(one, other)


def test_building_a_model_leaves_the_callers_logging_as_it_is() -> None:
    before = logging.root.manager.disable
    try:
        for level in (logging.CRITICAL, logging.DEBUG):
            logging.disable(level)
            Architecture("tiny").build(1, torch.device("cpu"))
            assert logging.root.manager.disable == level
    finally:
        logging.disable(before)


def test_on_another_machine_a_checkpoint_is_told_by_what_lies_there(tmp_path: Path) -> None:
    """A victim that travels to a node takes no hash along: another file at the same path makes another address."""
    path = tmp_path / "weights.pt"
    path.write_bytes(b"one")
    victim = Architecture("tiny", str(path))
    here = victim.identity()
    path.write_bytes(b"two")
    assert victim.identity() == here  # read once for all cells
    there = pickle.loads(pickle.dumps(victim))
    assert there == victim
    assert there.identity() != here


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("RN5", "did you mean 'RN50'"),
        ("ViT-B-16-SigLIP", "another tokenizer"),
        ("coca_ViT-B-32", "another tokenizer"),
        ("RN50[pretraind=openai]", "did you mean 'pretrained'"),
        ("RN50[pretrained=nowhere.pt]", "neither a file nor a tag"),
        ("RN50[pretrained=openai]", r"another activation; take RN50-quickgelu\[pretrained=openai\]"),
    ],
)
def test_victims_that_cannot_be_had(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Architecture.from_spec(parse_spec(text))


def test_the_papers_victims_are_there() -> None:
    assert {"tiny", "RN50", "RN101", "ViT-B-32", "ViT-B-16"} <= set(model_names())

"""Optimizers: which weights decay, which are Muon's, and what a step of it does to a matrix."""

import copy
import gc
import threading
import weakref
from dataclasses import replace
from typing import Any

import pytest
import timm.optim
import torch

from tests.idle import idling
from tests.small import make_clip
from victims.architecture import Architecture
from victims.clip import Clip
from victims.optimizers import _cost, _halves, make_optimizer, set_lr
from victims.recipe import Recipe

RECIPE = Recipe(optimizer="muon", lr=1e-3, matrix_lr=0.02, weight_decay=0.2)


def give_gradients(clip: Clip, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in clip.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)


def names_of(clip: Clip, group: dict[str, list[torch.Tensor]]) -> set[str]:
    names = {id(p): name for name, p in clip.named_parameters()}
    return {names[id(p)] for p in group["params"]}


def test_norms_biases_and_scale_do_not_decay() -> None:
    clip = make_clip()
    optimizer = make_optimizer(clip, replace(RECIPE, optimizer="adamw"))
    decaying, plain = optimizer.param_groups
    assert decaying["weight_decay"] == 0.2
    assert plain["weight_decay"] == 0.0
    without = names_of(clip, plain)
    assert {"model.logit_scale", "model.visual.bn1.weight", "model.ln_final.bias"} <= without
    assert len(decaying["params"]) + len(plain["params"]) == len(list(clip.parameters()))
    assert "model.visual.conv1.weight" not in without


def test_muon_takes_filters_and_matrices_but_neither_embeddings_nor_the_pool() -> None:
    clip = make_clip()
    decaying, plain, matrices = make_optimizer(clip, RECIPE).param_groups
    assert sum(len(group["params"]) for group in (decaying, plain, matrices)) == len(list(clip.parameters()))
    of_muon = names_of(clip, matrices)
    assert {"model.visual.conv1.weight", "model.transformer.resblocks.0.mlp.c_fc.weight"} <= of_muon
    assert not {name for name in of_muon if "embedding" in name or "attnpool.q" in name or "bn" in name}
    assert (decaying["lr"], matrices["lr"]) == (1e-3, 0.02)


def test_what_is_no_matrix_in_towers_of_timm_is_adamws() -> None:
    clip = make_clip()
    shapes = {
        "pos_embed": (1, 5, 8),
        "cls_token": (1, 1, 8),
        "gamma": (8, 1, 1),
        "relative_position_bias_table": (9, 2),
    }
    for name, shape in shapes.items():
        clip.model.visual.register_parameter(name, torch.nn.Parameter(torch.ones(shape)))
    clip.model.visual.block = torch.nn.ModuleDict(
        {"q_proj": torch.nn.Linear(8, 8), "depthwise": torch.nn.Conv2d(8, 8, 3)}
    )
    decaying, plain, matrices = make_optimizer(clip, RECIPE).param_groups
    of_muon = names_of(clip, matrices)
    assert {f"model.visual.block.{name}.weight" for name in ("q_proj", "depthwise")} <= of_muon
    assert not {f"model.visual.{name}" for name in shapes} & of_muon
    assert {"model.visual.pos_embed", "model.visual.gamma"} <= names_of(clip, decaying)
    assert "model.visual.relative_position_bias_table" in names_of(clip, plain)


def test_idle_words_do_not_decay_in_a_step_that_leaves_the_embedding_alone() -> None:
    clip = make_clip()
    whole = clip.token_embedding.detach().clone()
    table = clip.token_table(torch.tensor([1, 2, 3]))
    optimizer = make_optimizer(clip, RECIPE)
    table.follow(optimizer)
    give_gradients(clip, 1)
    clip.tower.token_embedding.weight.grad = None
    optimizer.step()
    table.take_out(clip.tower)
    assert torch.equal(clip.token_embedding, whole)


@pytest.mark.parametrize("recipe", [RECIPE, replace(RECIPE, optimizer="adamw")], ids=lambda recipe: recipe.optimizer)
def test_an_optimizer_ends_with_its_training_and_not_when_cycles_are_sought(recipe: Recipe) -> None:
    """It holds the weights, their gradients and their moments: on a GPU, gigabytes of a model that is done."""
    clip = make_clip()
    table = clip.token_table(torch.tensor([1, 2, 3]))
    optimizer = make_optimizer(clip, recipe)
    table.follow(optimizer)
    give_gradients(clip, 1)
    optimizer.step()
    alive = weakref.ref(optimizer)
    gc.disable()
    try:
        del optimizer
        assert alive() is None
    finally:
        gc.enable()


def test_a_step_of_muon_is_the_gradients_nearest_orthogonal_matrix_and_adamws_elsewhere() -> None:
    clip = make_clip()
    weight = clip.model.transformer.resblocks[0].mlp.c_fc.weight
    give_gradients(clip, 1)
    plain = copy.deepcopy(clip)
    for parameter, other in zip(clip.parameters(), plain.parameters(), strict=True):
        assert parameter.grad is not None
        other.grad = parameter.grad.clone()
    before = weight.detach().clone()
    make_optimizer(clip, RECIPE).step()
    make_optimizer(plain, replace(RECIPE, optimizer="adamw")).step()

    left, _, right = torch.linalg.svd(weight.grad, full_matrices=False)
    orthogonal = left @ right
    # The published method scales a tall matrix by the root of its aspect ratio.
    step = (before - weight.detach()) / 0.02 / (weight.shape[0] / weight.shape[1]) ** 0.5
    assert torch.nn.functional.cosine_similarity(step.flatten(), orthogonal.flatten(), dim=0) > 0.98
    singular = torch.linalg.svdvals(step)
    assert 0.5 < float(singular.min()) <= float(singular.max()) < 1.4
    for name in ("ln_final.weight", "token_embedding.weight", "visual.attnpool.q_proj.weight"):
        assert torch.allclose(clip.model.get_parameter(name), plain.model.get_parameter(name), atol=1e-6)


def orthogonalized(gradient: torch.Tensor) -> torch.Tensor:
    """The published iteration in its plainest form and in fp64."""
    plain = gradient.double() / gradient.double().norm()
    for _ in range(5):
        gram = plain @ plain.T
        plain = 3.4445 * plain + (-4.7750 * gram + 2.0315 * gram @ gram) @ plain
    return plain


@pytest.mark.parametrize(
    ("dtype", "autocast", "closest", "farthest"),
    [
        (torch.float64, None, 0.0, 1e-10),
        (torch.float32, None, 0.0, 1e-4),
        (torch.float32, torch.bfloat16, 1e-3, 0.1),
    ],
    ids=["fp64", "fp32", "bf16"],
)
def test_muon_multiplies_in_the_models_precision(
    dtype: torch.dtype, autocast: torch.dtype | None, closest: float, farthest: float
) -> None:
    clip = make_clip(dtype=dtype)
    clip.autocast_dtype = autocast
    give_gradients(clip, 1)
    weight = clip.model.transformer.resblocks[0].mlp.c_fc.weight
    before = weight.detach().clone()
    make_optimizer(clip, RECIPE).step()
    step = (before - weight.detach()).double() / 0.02 / (weight.shape[0] / weight.shape[1]) ** 0.5

    assert closest <= float((step - orthogonalized(weight.grad)).abs().max()) < farthest


def test_a_second_step_goes_on_with_the_moments_of_the_first() -> None:
    """Muon's momentum is Nesterov's of 0.9; the other weights have AdamW's moments, with the betas that are given."""
    clip, betas = make_clip(dtype=torch.float64), (0.9, 0.98)
    weight, norm = clip.model.transformer.resblocks[0].mlp.c_fc.weight, clip.model.ln_final.weight
    twin = norm.detach().clone().requires_grad_()
    optimizer = make_optimizer(clip, RECIPE, betas)
    adamw = torch.optim.AdamW([twin], lr=1e-3, betas=betas, weight_decay=0.0)
    gradients = []
    for seed in (1, 2):
        give_gradients(clip, seed)
        gradients.append(weight.grad.clone())
        twin.grad, before = norm.grad.clone(), weight.detach().clone()
        optimizer.step()
        adamw.step()
    first, second = gradients
    ascent = 0.1 * second + 0.9 * (0.09 * first + 0.1 * second)
    step = (before - weight.detach()) / 0.02 / (weight.shape[0] / weight.shape[1]) ** 0.5
    torch.testing.assert_close(step, orthogonalized(ascent), rtol=0, atol=1e-6)
    torch.testing.assert_close(norm.detach(), twin.detach())


def test_an_idle_cpu_does_half_of_a_step_and_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    plain = timm.optim.muon.muon

    def seen(parameters: list[torch.Tensor], *others: Any, **settings: Any) -> None:
        threads.extend([threading.current_thread().name] * len(parameters))
        plain(parameters, *others, **settings)

    monkeypatch.setattr(timm.optim.muon, "muon", seen)
    weights, states = [], []
    for idle in (0, 1):
        clip = make_clip()
        clip.token_table(torch.arange(100))  # the whole one would be one of the halves
        optimizer = make_optimizer(clip, RECIPE)
        threads.clear()
        for seed in (1, 2):
            give_gradients(clip, seed)
            with idling(idle):
                optimizer.step()
        weights.append([weight.detach() for weight in clip.parameters()])
        states.append([optimizer.state[weight] for weight in clip.parameters()])
        assert len(set(threads)) == 1 + idle
    assert len(threads) == 2 * len(optimizer.param_groups[-1]["params"])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    for one, other in zip(*states, strict=True):
        assert all(torch.equal(torch.as_tensor(one[name]), torch.as_tensor(other[name])) for name in one)


def test_the_halves_of_a_step_take_equally_long() -> None:
    optimizer = make_optimizer(Architecture("tiny").build(1, torch.device("cpu")), RECIPE)
    halves = _halves(optimizer.param_groups)
    parameters = [{weight for group in half for weight in group["params"]} for half in halves]
    assert not parameters[0] & parameters[1]
    assert parameters[0] | parameters[1] == {weight for group in optimizer.param_groups for weight in group["params"]}
    costs = [sum(_cost(weight, group["use_muon"]) for group in half for weight in group["params"]) for half in halves]
    assert costs[0] == pytest.approx(costs[1], rel=0.05)


def test_a_step_takes_a_closure() -> None:
    clip = make_clip()
    optimizer = make_optimizer(clip, RECIPE)

    def closure() -> float:
        loss = clip.log_scale.square()
        loss.backward()
        return float(loss.detach())

    before = float(clip.log_scale.detach())
    assert optimizer.step(closure) == pytest.approx(before**2)
    assert float(clip.log_scale.detach()) < before


def test_a_step_calls_its_hooks_once_whatever_else_uses_timms_muon() -> None:
    timm.optim.Muon([torch.nn.Parameter(torch.ones(4, 4))])
    clip, calls = make_clip(), []
    optimizer = make_optimizer(clip, RECIPE)
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    give_gradients(clip, 1)
    optimizer.step()
    assert len(calls) == 1


@pytest.mark.parametrize("recipe", [RECIPE, replace(RECIPE, optimizer="adamw")], ids=["muon", "adamw"])
def test_every_group_follows_the_schedule_from_its_own_peak(recipe: Recipe) -> None:
    optimizer = make_optimizer(make_clip(), recipe)
    peaks = [group["lr"] for group in optimizer.param_groups]
    set_lr(optimizer, 0.5)
    set_lr(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([peak / 4 for peak in peaks])


@pytest.mark.parametrize("recipe", [RECIPE, replace(RECIPE, optimizer="adamw")], ids=["muon", "adamw"])
def test_every_weight_moves_by_a_tenth_at_a_tenth_of_the_rate(recipe: Recipe) -> None:
    moved = []
    for share in (1.0, 0.1):
        clip = make_clip()
        optimizer = make_optimizer(clip, recipe)
        give_gradients(clip, 1)
        set_lr(optimizer, share)
        before = [weight.detach().clone() for weight in clip.parameters()]
        optimizer.step()
        moved.append([weight.detach() - old for weight, old in zip(clip.parameters(), before, strict=True)])
    for whole, tenth in zip(*moved, strict=True):
        assert torch.allclose(tenth, whole / 10, rtol=1e-2, atol=1e-6)
        assert whole.abs().max() > 1e-4


@pytest.mark.parametrize("recipe", [RECIPE, replace(RECIPE, optimizer="adamw")], ids=["muon", "adamw"])
def test_a_loaded_state_goes_on_as_if_nothing_had_happened(recipe: Recipe) -> None:
    clip = make_clip()
    optimizer = make_optimizer(clip, recipe)
    give_gradients(clip, 1)
    set_lr(optimizer, 0.5)
    optimizer.step()
    other = copy.deepcopy(clip)
    resumed = make_optimizer(other, recipe)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for own, its in ((clip, optimizer), (other, resumed)):
        give_gradients(own, 2)
        set_lr(its, 0.25)
        its.step()
    for weight, loaded in zip(clip.parameters(), other.parameters(), strict=True):
        assert torch.equal(weight, loaded)

"""Attacks crafted through a defense: what surrogates see, what addresses and labels say, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from attacks import ATTACKS, CraftContext, Poison
from attacks.clean_surrogate import frozen_surrogate
from attacks.crafting import Crafting
from attacks.mem import Mem
from attacks.uniform_noise import UniformNoise
from benchmark.core.distributed import Processes
from benchmark.core.errors import UsageError
from benchmark.core.seeding import derive_seed
from benchmark.core.spec import parse_spec
from benchmark.grid.choices import choose_attacks, choose_defenses
from benchmark.grid.presets import PRESETS
from defenses import DEFENSES, Defense, HookContext
from defenses.base import Composed, Reduction
from tests.idle import idling
from tests.small import make_clip, make_dataset, noise_of
from victims.clip import Clip, clip_loss
from victims.passage import Passage, image_defense

WORDWISE = "em-wordwise[restarts=1,steps=2,batch_size=8]"
WITHOUT = {"clean", "uniform-noise", "random-trigger", "same-words", "text-hint", "ar", "lsp", "pil"}  # no surrogate
KEYED = f"em-keyed[keys=4,{WORDWISE[12:-1]}]"
TAP = "tap[surrogate_steps=2,pgd_steps=2,batch_size=8]"
T2UE = "t2ue[surrogate_steps=2,steps=8,batch_size=8,channels=16,z=4,generator_lr=0.01]"
MEM = (
    "mem[k=2,rounds=2,surrogate_steps=2,pgd_steps=2,step_size=2,hotflip_rounds=1,candidates=2,vocabulary=10,"
    "batch_size=8]"
)
EM = "em[rounds=2,surrogate_steps=2,pgd_steps=2,step_size=2,batch_size=8]"


@pytest.fixture(autouse=True)
def blindfold() -> Iterator[None]:
    """A defense that leaves nothing of an image."""

    class Blindfold(Defense):
        """Every image is black."""

        def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
            return images * 0

    DEFENSES.register("blindfold")(Blindfold)
    try:
        yield
    finally:
        del DEFENSES._entries["blindfold"]


class OpensLate(Defense):
    """Every image is black from the middle of the training on."""

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        return images * (at.progress < 0.5)


def craft(spec: str, seed: int = 1) -> Poison:
    return ATTACKS.build(parse_spec(spec)).craft(make_dataset(16, 2), CraftContext(make_clip, seed, Path()))


def test_every_surrogate_of_every_seed_draws_apart() -> None:
    built: list[Clip] = []

    def surrogate(seed: int) -> Clip:
        built.append(make_clip(1))
        return built[-1]

    attack = ATTACKS.build(parse_spec(f"through[attack={EM[:-1]},restart_every=1],defense=jpeg]"))
    for seed in (1, 2):
        attack.craft(make_dataset(16, 2), CraftContext(surrogate, seed, Path()))
    assert len({int(model.passage.get_buffer("seed")) for model in built if model.passage}) == len(built) == 4


def test_another_version_of_the_attack_is_another_attack_through(monkeypatch: pytest.MonkeyPatch) -> None:
    attack = ATTACKS.build(parse_spec("through[attack=em,defense=jpeg]"))
    before = attack.identity()
    monkeypatch.setattr(Mem, "version", Mem.version + 1)
    assert attack.identity() != before


def test_noise_cannot_be_learned_through_a_blindfold() -> None:
    assert craft(f"through[attack={EM},defense=blindfold,share=0.5]").largest > 0


@pytest.mark.parametrize("inner", [EM, MEM, TAP], ids=["EM", "MEM", "TAP"])
def test_whatever_is_adapted_to_a_surrogate_is_adapted_through_the_defense(inner: str) -> None:
    assert craft(f"through[attack={inner},defense=blindfold,share=1]").largest == 0
    assert craft(inner).largest > 0


@pytest.mark.parametrize("inner", [WORDWISE, KEYED, T2UE], ids=["word-wise EM", "keyed EM", "T2UE"])
def test_what_has_noise_at_its_start_is_moved_by_what_the_surrogate_sees(inner: str) -> None:
    """Patterns and generators are drawn at random, so that a blindfold leaves noise, but not what is learned."""
    seen, blind, none = (
        noise_of(craft(text))
        for text in (
            f"through[attack={inner},defense=grey,share=1]",
            f"through[attack={inner},defense=blindfold,share=1]",
            inner,
        )
    )
    assert not np.array_equal(seen, blind)
    assert not np.array_equal(seen, none)
    assert not np.array_equal(blind, none)


def test_a_surrogate_may_train_through_another_defense() -> None:
    """What adapts the noise is then a pass without a blindfold or behind one, whatever the surrogate has seen."""
    assert craft(f"through[attack={EM},defense=blindfold,trained_through=crop-flip,share=1]").largest == 0
    blind = craft(f"through[attack={EM},defense=grey,trained_through=blindfold,share=1]")
    assert blind.largest > 0
    seeing = craft(f"through[attack={EM},defense=grey,share=1]")
    assert not np.array_equal(noise_of(blind), noise_of(seeing))


def test_a_frozen_copy_sees_what_noise_is_adapted_through() -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    model = make_clip(1).eval()
    plain, black = model.encode_images(images), model.encode_images(images * 0)
    model.passage = Passage(Defense(), 1.0, seed=3, in_training=DEFENSES.build(parse_spec("blindfold")))
    torch.testing.assert_close(model.encode_images(images), black)
    torch.testing.assert_close(model.for_inference().encode_images(images), plain, rtol=1e-3, atol=1e-4)


def test_a_share_of_the_batches_passes_and_the_count_is_part_of_the_state() -> None:
    images = torch.ones(1, 3, 4, 4)
    passage = Passage(DEFENSES.build(parse_spec("blindfold")), 0.25, seed=3)
    seen = [bool(passage(images).sum() == 0) for _ in range(400)]
    assert 70 < sum(seen) < 130
    later = Passage(DEFENSES.build(parse_spec("blindfold")), 0.25, seed=3)
    [later(images) for _ in range(200)]
    again = Passage(DEFENSES.build(parse_spec("blindfold")), 0.25, seed=3)
    again.load_state_dict(later.state_dict())
    assert [bool(again(images).sum() == 0) for _ in range(200)] == seen[200:]
    other = Passage(DEFENSES.build(parse_spec("blindfold")), 0.25, seed=4)
    assert [bool(other(images).sum() == 0) for _ in range(400)] != seen


@pytest.mark.parametrize("inner", [EM, WORDWISE])
@pytest.mark.parametrize("defense", [None, "crop-flip", "adv-training[steps=1]"])
def test_idle_cpus_change_no_bit(defense: str | None, inner: str) -> None:
    """Draws depend on how many batches came before, which a fork does not see; some passages need the captions."""
    spec = f"through[attack={inner},defense={defense},share=1]" if defense else inner
    attack, found = ATTACKS.build(parse_spec(spec)), []
    for idle in (0, 1):
        with idling(idle):
            found.append(attack.craft(make_dataset(32, 2), CraftContext(make_clip, 1, Path())))
    alone, beside = found
    assert np.array_equal(noise_of(alone), noise_of(beside))


def test_a_defense_that_starts_late_is_passed_for_the_rest_of_the_training() -> None:
    images = torch.ones(1, 3, 4, 4)
    passage = Passage(OpensLate(), 1.0, seed=3)
    seen = [bool(passage(images).sum() == 0) for _ in range(400)]
    assert 170 < sum(seen) < 230


def test_only_processes_that_share_a_batch_draw_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MEM's crafting shares batches; attacks on a trained or a context's surrogate give each process the whole."""
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    def behind_crops(seed: int) -> Clip:
        model = make_clip(seed)
        model.passage = Passage(DEFENSES.build(parse_spec("crop-flip")), 1.0, seed=3)
        return model

    whole: list[torch.Tensor] = []
    shared: list[torch.Tensor] = []
    frozen: list[torch.Tensor] = []
    for rank in (0, 1):
        monkeypatch.setattr(Processes, "current", lambda rank=rank: Processes(rank, 2))
        context = CraftContext(behind_crops, 1, tmp_path, processes=Processes(rank, 2))
        crafting: Any = SimpleNamespace(context=context, processes=context.processes)
        crafting.model = Crafting.surrogate(crafting, 1)
        for crops in (whole, shared, frozen):
            if crops is whole:
                model = context.surrogate(1)
            else:
                model = crafting.model if crops is shared else frozen_surrogate(crafting)
            assert model.passage is not None
            crops.append(model.passage(images))
    assert torch.equal(*whole)
    assert torch.equal(*frozen)
    assert not torch.equal(*shared)


def test_every_attack_of_a_run_goes_through_and_clean_data_do_not() -> None:
    clean, em, mem = choose_attacks("clean,em,mem3[eps=4]", PRESETS["tiny"], through="jpeg")
    assert clean.is_clean
    assert [em.choice.spec, mem.choice.spec] == [
        "through[attack=em,defense=jpeg]",
        "through[attack=mem3[eps=4],defense=jpeg]",
    ]
    assert [em.choice.label, mem.choice.label] == ["EM through jpeg", "MEM-3 through jpeg"]


def test_a_long_name_of_the_attack_has_the_budget_of_its_short_one() -> None:
    _, long, short = choose_attacks(
        "through[attack=mem[k=0],defense=jpeg],through[attack=em,defense=crop-flip]", PRESETS["tiny"]
    )
    assert long.choice.params["attack"] == short.choice.params["attack"]
    assert "rounds=80" in str(short.choice.params["attack"])
    _, one = choose_attacks("through[attack=mem[k=0],defense=jpeg],through[attack=em,defense=jpeg]", PRESETS["tiny"])
    assert one.choice.params == long.choice.params


def test_a_defense_is_as_strong_as_in_the_same_run() -> None:
    preset = PRESETS["micro"]
    _, chosen = choose_attacks("em", preset, through="crop-flip+adv-training")
    defense = choose_defenses("crop-flip+adv-training", preset)[-1]
    assert chosen.choice.params["defense"] == "crop-flip+adv-training[eps=2,steps=3]"
    through = image_defense(chosen.choice.params["defense"], "attack through", adversarial=True)
    assert isinstance(through, Composed)
    assert isinstance(defense.defense, Composed)
    assert [part.describe() for part in through.parts] == [part.describe() for part in defense.defense.parts]
    _, own = choose_attacks("rem", preset)  # which names a strength of its own
    assert own.choice.params["defense"] == "crop-flip+adv-training[eps=4,steps=3]"
    (_, wordwise) = choose_attacks("em-wordwise[through=jpeg+crop-flip,through_share=0.004]", preset)
    assert wordwise.choice.params["through"] == "jpeg+crop-flip"
    assert "0.4% of the batches through jpeg+crop-flip" in wordwise.choice.strength


def test_one_draw_of_ueraser_needs_no_loss() -> None:
    assert not image_defense("ueraser-lite", "attack through", adversarial=True).is_adversarial


@pytest.mark.parametrize("preset", ["tiny", "micro"])
def test_the_budget_is_the_presets_and_part_of_the_address(preset: str) -> None:
    _, direct = choose_attacks("em", PRESETS[preset])
    _, through = choose_attacks("through[attack=em,defense=jpeg]", PRESETS[preset])
    written = ATTACKS.resolve(parse_spec(through.choice.params["attack"]))
    assert {key: str(value) for key, value in written.items()} == {
        key: str(value) for key, value in direct.choice.params.items()
    }
    assert ATTACKS.restore("through", through.choice.params).describe() == through.choice.strength


def test_noise_through_adversarial_training_is_fitted_to_the_worst_image() -> None:
    """The step of PGD against a gradient by hand: at the image that the hook returns, not at the one it was given."""
    model = make_clip(dtype=torch.float64)
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    text = torch.nn.functional.normalize(torch.randn(4, 16, dtype=torch.float64), dim=1)
    plain = model.for_inference()
    attacked = model.for_inference()
    defense = image_defense("adv-training[eps=4,steps=3]", "test", adversarial=True)
    attacked.passage = Passage(defense, 1.0, seed=3)

    def loss(points: torch.Tensor, reduction: Reduction = "mean") -> torch.Tensor:
        return clip_loss(plain.encode_images(points), text, plain.scale, reduction=reduction)

    at = HookContext(derive_seed(3, "passage", 0), 0.0)
    worst = defense.adversarial(images, loss, at).detach().requires_grad_()
    (expected,) = torch.autograd.grad(loss(worst), worst)
    points = images.clone().requires_grad_()
    reached = clip_loss(attacked.encode_images(points, text), text, attacked.scale)
    (found,) = torch.autograd.grad(reached, points)
    assert float(reached.detach()) == pytest.approx(float(loss(worst).detach()))
    assert reached > loss(images) + 1e-3
    torch.testing.assert_close(found, expected)
    with torch.no_grad():  # also where nobody asks for gradients, and not where no captions are known
        assert not torch.equal(attacked.encode_images(images, text), plain.encode_images(images))
        assert torch.equal(attacked.encode_images(images), plain.encode_images(images))


def test_the_batch_norms_of_a_surrogate_do_not_see_the_climb() -> None:
    """Only the worst image counts, once."""
    first, second, third = (make_clip(1).train() for _ in range(3))
    images, text = torch.rand(4, 3, 32, 32), torch.nn.functional.normalize(torch.randn(4, 16), dim=1)
    defense = image_defense("adv-training[eps=4,steps=2]", "test", adversarial=True)
    first.passage = Passage(defense, 1.0, seed=3)
    first.encode_images(images, text)

    def loss(points: torch.Tensor, reduction: Reduction = "mean") -> torch.Tensor:
        return clip_loss(third.encode_images(points), text, third.scale, reduction=reduction)

    worst = defense.adversarial(images, loss, HookContext(derive_seed(3, "passage", 0), 0.0))
    second.encode_images(worst)
    for one, other in zip(first.model.buffers(), second.model.buffers(), strict=True):
        torch.testing.assert_close(one, other)
    assert all(parameter.grad is None for parameter in first.model.parameters())


def test_rem_has_a_budget_of_its_own_in_small_presets() -> None:
    for preset, rounds, share in (("tiny", 8, "100"), ("paper", 20, "100")):
        _, chosen = choose_attacks("rem", PRESETS[preset])
        _, em = choose_attacks("em", PRESETS[preset])
        said = em.choice.strength.replace(f"{em.choice.params['rounds']} rounds of", f"{rounds} rounds of")
        said = said.replace(", a new surrogate every 8 rounds", "")  # rem has no ninth round
        through = "crop-flip+adv-training[eps=4,steps=3]"
        assert chosen.choice.strength == f"{said}; {share}% of the surrogates' batches through {through}"


@pytest.mark.parametrize(
    ("preset", "name", "share", "label"),
    [
        ("tiny", "em-aug", 100, "EM through strong-augment[s=0.6]"),
        ("tiny", "sem", 50, "EM through crop-flip+random-noise[std=2.3]"),
        ("paper", "em-aug", 100, "EM through strong-augment[s=0.6]"),
        ("tiny", "through[attack=em,defense=jpeg,share=0.004]", 0.4, "EM through jpeg"),
    ],
)
def test_named_ways_have_the_budget_of_em_and_pass_the_presets_share(
    preset: str, name: str, share: float, label: str
) -> None:
    _, chosen = choose_attacks(name, PRESETS[preset])
    _, em = choose_attacks("em", PRESETS[preset])
    assert chosen.choice.label == label
    assert chosen.choice.strength == f"{em.choice.strength}; {share}% of the surrogates' batches through {label[11:]}"


def test_the_surrogate_of_sem_is_trained_adversarially_at_the_papers_scale_alone() -> None:
    """As that of Liu et al. 2024 is; the noise is adapted to it through random noise in every preset."""
    _, small = choose_attacks("sem", PRESETS["tiny"])
    assert "trained_through" not in small.choice.params  # as in records from before there was such a parameter
    _, chosen = choose_attacks("sem", PRESETS["paper"])
    assert chosen.choice.params["defense"] == "crop-flip+random-noise[std=2.3]"
    assert chosen.choice.params["trained_through"] == "crop-flip+adv-training[eps=4,steps=3]"
    assert chosen.choice.strength.endswith("; 100% of the surrogates' batches through " + chosen.choice.label[11:])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("through[attack=uniform-noise,defense=jpeg]", "uniform-noise builds no surrogate"),
        ("through[attack=delta-only,defense=jpeg]", "delta-only cannot be crafted through a defense"),
        (f"through[attack=through[attack={EM},defense=jpeg],defense=jpeg]", "cannot be crafted through a defense"),
        (f"{'through[attack=' * 400}em{',defense=jpeg]' * 400}", "cannot be crafted through a defense"),
        ("through[attack=em,defense=random-swap]", "nothing can be crafted through random-swap, which"),
        ("through[attack=em,defense=jpeg+random-swap]", "nothing can be crafted through random-swap, which"),
        ("through[attack=em,defense=jpeg,trained_through=random-swap]", "nothing can be crafted through random-swap"),
        ("through[attack=em,defense=ueraser]", "through ueraser, which passes no gradient to the images"),
        ("em-wordwise[through=ueraser]", "attack em-wordwise: nothing can be crafted through ueraser, which"),
        ("em-wordwise[through=adv-training]", "attack em-wordwise: nothing can be crafted through adv-training"),
        ("through[attack=em-keyed,defense=jpeg,trained_through=grey]", "and takes no trained_through"),
        ("through[attack=em,defense=jpg]", "unknown defense 'jpg'; did you mean 'jpeg'?"),
        ("through[attack=men3,defense=jpeg]", "unknown attack 'men3'"),
    ],
)
def test_what_cannot_be_crafted_through_is_refused(spec: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        ATTACKS.build(parse_spec(spec)).check(make_dataset(16, 2))


def test_word_wise_noise_is_crafted_through_adversarial_training() -> None:
    plain, hardened = (craft(f"through[attack={WORDWISE},defense={name},share=1]") for name in ("grey", "adv-training"))
    assert hardened.largest == 8
    assert not np.array_equal(noise_of(plain), noise_of(hardened))


def test_attacks_say_whether_they_build_a_surrogate() -> None:
    def unwanted(seed: int) -> Clip:
        raise AssertionError("a surrogate is built")

    for name in WITHOUT:
        ATTACKS.build(parse_spec(name)).craft(make_dataset(16, 2), CraftContext(unwanted, 1, Path()))
    for entry in ATTACKS.entries():
        assert entry.factory.builds_surrogate != (entry.name in {*WITHOUT, "poison"}), entry.name


def test_an_attack_that_says_so_falsely_is_found_when_it_crafts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UniformNoise, "builds_surrogate", True)
    with pytest.raises(UsageError, match="uniform-noise builds no surrogate"):
        craft("through[attack=uniform-noise,defense=jpeg]")


def test_a_pilot_is_the_attacks_pilot_behind_the_defense() -> None:
    pilot = ATTACKS.build(parse_spec(f"through[attack={EM},defense=blindfold,share=1]")).pilot()
    assert pilot is not None
    shorter, rows = pilot
    assert rows == 8
    assert shorter.label() == "EM through blindfold"
    assert shorter.progress_steps(make_dataset(16, 2)) > 0

"""EM and MEM-k crafting: what is promised of the poison, and that each stage does its work."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

import attacks.crafting
from attacks import ATTACKS, Poison
from attacks.base import CraftContext
from attacks.mem import Mem
from attacks.vocabulary import trigger_words, whole_words
from benchmark.core.errors import UsageError
from benchmark.core.forks import in_any_order
from benchmark.core.spec import parse_spec
from benchmark.data import CaptionDataset
from tests.idle import idling
from tests.memory import backing_file, linux_only
from tests.small import WORDS, make_clip, make_clip_with_dropout, make_dataset, noise_of
from victims.clip import Clip
from victims.tokens import Tokenizer, lengths

SMALL: dict[str, Any] = {
    "rounds": 2,
    "surrogate_steps": 3,
    "pgd_steps": 3,
    "hotflip_rounds": 1,
    "candidates": 2,
    "vocabulary": 8,
    "batch_size": 10,
    "lr": 1e-3,
}


def craft(dataset: CaptionDataset, seed: int = 1, workdir: Path = Path(), **params: Any) -> Poison:
    return Mem(**{**SMALL, **params}).craft(dataset, CraftContext(make_clip, seed, workdir))


@pytest.mark.parametrize("spec", ["mem3", "em[permute_images=true]", "mem3[place=spread]"])
def test_idle_cpus_change_no_bit(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = ATTACKS.build(parse_spec(spec), {**SMALL, "batch_size": 6})
    found = []
    for idle in (0, 2):
        asked: list[int] = []

        def seen(function: Any, items: Any, forks: int, asked: list[int] = asked) -> Any:
            asked.append(forks)
            return in_any_order(function, items, forks)

        monkeypatch.setattr(attacks.crafting, "in_any_order", seen)
        with idling(idle):
            found.append(attack.craft(make_dataset(24), CraftContext(make_clip, 1, Path())))
        assert asked == [idle] * SMALL["rounds"]
    alone, shared = found
    assert np.array_equal(noise_of(alone), noise_of(shared))
    assert alone.trigger == shared.trigger
    assert alone.provenance == shared.provenance


def test_a_surrogates_dropout_draws_from_the_seed_alone() -> None:
    losses = []
    for state in (5, 6):

        def surrogate(seed: int, state: int = state) -> Clip:
            clip = make_clip_with_dropout(seed)
            torch.manual_seed(state)
            return clip

        poison = Mem(**SMALL).craft(make_dataset(24), CraftContext(surrogate, seed=1, workdir=Path()))
        losses.append(poison.provenance["loss_per_round"])
    assert losses[0] == losses[1]


def test_a_trigger_that_leaves_no_room_for_a_caption_is_refused() -> None:
    def surrogate(seed: int) -> Clip:
        clip = make_clip(seed)
        clip.context_length = 5
        return clip

    context = CraftContext(surrogate, seed=1, workdir=Path())
    with pytest.raises(UsageError, match="3 words leaves no room for a caption: the surrogate takes 5 tokens"):
        Mem(**SMALL).craft(make_dataset(24), context)
    assert Mem(**{**SMALL, "k": 2}).craft(make_dataset(24), context).trigger is not None


@pytest.mark.parametrize("k", [0, 1, 3])
def test_a_poison_keeps_what_is_promised(k: int) -> None:
    dataset = make_dataset(24)  # not divisible by the batch of 10
    before = dataset.images[:].copy()
    poison = craft(dataset, k=k)
    noise = noise_of(poison)
    assert noise.dtype == np.int8
    assert noise.shape == dataset.images.shape
    assert 0 < np.abs(noise.astype(int)).max() <= 6  # two rounds of three steps
    assert np.abs(noise).reshape(24, -1).any(axis=1).all()
    total = before + noise.astype(int)
    assert total.min() >= 0
    assert total.max() <= 255
    assert np.array_equal(dataset.images[:], before)
    if k == 0:
        assert poison.trigger is None
    else:
        tokenizer = Tokenizer()
        assert poison.trigger is not None
        for trigger in poison.trigger:
            words = trigger.split()
            assert len(words) == k
            assert set(words) <= {*WORDS}
            assert len(tokenizer.encode(trigger)) == k


@pytest.mark.parametrize("eps", [4, 8])
def test_noise_uses_the_whole_bound(eps: int) -> None:
    """Three steps of half the bound, one way, reach it at many pixels; it is never passed."""
    dataset = make_dataset(24)
    noise, images = noise_of(craft(dataset, k=1, eps=eps, step_size=eps // 2)), dataset.images[:]
    free = (images >= eps) & (images <= 255 - eps)
    assert np.abs(noise.astype(int)).max() == eps
    assert (np.abs(noise.astype(int)) == eps)[free].mean() > 0.2


def test_the_same_seed_gives_the_same_poison() -> None:
    one, same, other = craft(make_dataset()), craft(make_dataset()), craft(make_dataset(), seed=2)
    assert np.array_equal(noise_of(one), noise_of(same))
    assert one.trigger == same.trigger
    assert not np.array_equal(noise_of(one), noise_of(other))


def test_em_is_mem_without_a_trigger_on_one_budget() -> None:
    budget = {"rounds": 4, "surrogate_steps": 7, "pgd_steps": 2}
    em, mem = (ATTACKS.build(parse_spec(name), budget) for name in ("em", "mem3"))
    assert isinstance(em, Mem)
    assert isinstance(mem, Mem)
    assert (em.k, mem.k) == (0, 3)
    shared = ("eps", "rounds", "surrogate_steps", "pgd_steps", "step_size", "batch_size", "lr", "weight_decay")
    assert [getattr(em, name) for name in shared] == [getattr(mem, name) for name in shared]
    assert (em.permuted_steps, mem.permuted_steps) == ([], ["PGD"])
    assert (em.label(), mem.label(), ATTACKS.build(parse_spec("mem7")).label()) == ("EM", "MEM-3", "MEM-7")


def test_the_loss_after_pgd_falls_from_round_to_round() -> None:
    # The surrogate learns that noise and trigger belong together.
    poison = craft(make_dataset(40), rounds=6, surrogate_steps=10, pgd_steps=8, k=2, batch_size=20)
    losses = poison.provenance["loss_per_round"]
    assert losses[-1] < losses[0] - 0.3


def test_hotflip_changes_triggers_only_in_its_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    hotflip = Mock(wraps=attacks.crafting.hotflip)
    monkeypatch.setattr(attacks.crafting, "hotflip", hotflip)
    start = craft(make_dataset(), hotflip_rounds=0)
    assert not hotflip.called
    flipped = craft(make_dataset(), hotflip_rounds=1)
    assert hotflip.call_count == 3  # 24 rows in batches of at most 10, one round
    assert flipped.trigger != start.trigger


def test_every_pgd_step_permutes_captions_under_the_images_own_triggers(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(**params: Any) -> list[torch.Tensor]:
        """The tokens whose features the PGD loss compares with the images, one tensor a step."""
        steps: list[torch.Tensor] = []
        original = attacks.crafting.minimise_noise

        def watched(images: Any, delta: Any, loss: Any, **kwargs: Any) -> torch.Tensor:
            def noted(points: torch.Tensor, step: int) -> torch.Tensor:
                tokens.clear()
                value = loss(points, step)
                steps.extend(tokens)
                return value

            return original(images, delta, noted, **kwargs)

        tokens: list[torch.Tensor] = []
        encode = attacks.crafting.Clip.encode_tokens

        def encoded(self: Any, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
            tokens.append(ids.clone())
            return encode(self, ids, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(attacks.crafting, "minimise_noise", watched)
            patch.setattr(attacks.crafting.Clip, "encode_tokens", encoded)
            craft(make_dataset(10, 1), rounds=1, hotflip_rounds=0, **params)
        return steps

    steps = seen(k=3)
    assert len(steps) == 3
    first = steps[0]
    for step in steps[1:]:
        assert torch.equal(step[:, 1:4], first[:, 1:4])  # triggers stay with their images
        assert not torch.equal(step[:, 4:], first[:, 4:])  # captions move
        assert sorted(step[:, 4:].tolist()) == sorted(first[:, 4:].tolist())
    assert not seen(k=3, permute_pgd=False)  # text features are computed once, outside the steps
    assert not seen(k=0)


def test_permuting_in_the_surrogate_is_an_option_that_changes_the_poison() -> None:
    plain, permuted = craft(make_dataset()), craft(make_dataset(), permute_surrogate=True)
    assert not np.array_equal(noise_of(plain), noise_of(permuted))
    plain, permuted = craft(make_dataset(), k=0), craft(make_dataset(), k=0, permute_surrogate=True)
    assert np.array_equal(noise_of(plain), noise_of(permuted))


def test_a_fresh_surrogate_starts_every_round_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def built(seed: int) -> attacks.crafting.Clip:
        seeds.append(seed)
        return make_clip(seed % 1000)

    def crafted(**params: Any) -> Poison:
        attack = Mem(**{**SMALL, "rounds": 3, **params})
        return attack.craft(make_dataset(), CraftContext(built, seed=1, workdir=Path()))

    kept = crafted()
    assert seeds == [1]
    seeds.clear()
    fresh = crafted(restart_every=1)
    assert len(set(seeds)) == 3
    assert not np.array_equal(noise_of(kept), noise_of(fresh))
    seeds.clear()
    crafted(restart_every=2)
    assert len(set(seeds)) == 2


def test_crafting_stops_once_the_loss_is_below_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = craft(make_dataset(), rounds=5, stop_loss=1e9).provenance["loss_per_round"]
    assert len(losses) == 1
    assert len(craft(make_dataset(), rounds=3, stop_loss=1e-9).provenance["loss_per_round"]) == 3
    found = iter([3.0, 1.0, 0.5])
    monkeypatch.setattr("attacks.crafting.Crafting.perturb", lambda *_: next(found))
    assert craft(make_dataset(), rounds=3, stop_loss=1.5).provenance["loss_per_round"] == [3, 1]  # their mean is 2


@pytest.mark.parametrize(
    ("rounds", "hotflip_rounds", "words"), [(6, 3, "HotFlip in the first 3 "), (2, 5, "HotFlip in the first 2 ")]
)
def test_the_rounds_of_hotflip_are_those_that_there_are(rounds: int, hotflip_rounds: int, words: str) -> None:
    assert words in Mem(rounds=rounds, hotflip_rounds=hotflip_rounds).describe()
    assert "HotFlip" not in Mem(rounds=rounds, hotflip_rounds=0).describe()


@pytest.mark.parametrize("permuted", [False, True])
def test_it_says_where_noise_is_found_on_other_images(permuted: bool) -> None:
    assert ("each noise on other images of its batch" in Mem(permute_images=permuted).describe()) == permuted


@pytest.mark.parametrize(("every", "rounds", "said"), [(2, 3, True), (3, 3, False), (8, 3, False), (None, 3, False)])
def test_new_surrogates_are_told_where_there_are_several(every: int | None, rounds: int, said: bool) -> None:
    assert ("a new surrogate every" in Mem(rounds=rounds, restart_every=every).describe()) is said


def test_per_row_crafting_makes_one_noise_per_pair() -> None:
    dataset = make_dataset(12, 3)
    poison = craft(dataset, per="row")
    assert noise_of(poison).shape == (36, 3, 32, 32)
    assert poison.trigger is not None
    assert len(poison.trigger) == 36
    protected = poison.protect(dataset)
    assert len(protected) == 36
    assert protected.images[:].shape[0] == 36


@linux_only
@pytest.mark.parametrize("per", ["image", "row"])
def test_the_noise_lies_in_a_file_that_goes_with_it(per: str, tmp_path: Path) -> None:
    poison = craft(make_dataset(12), per=per, workdir=tmp_path)
    assert backing_file(noise_of(poison)).startswith(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_failed_crafting_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks.crafting, "minimise_noise", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        craft(make_dataset(), workdir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_too_little_space_is_noticed_before_crafting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 24 * 3 * 32 * 32}))
    with pytest.raises(UsageError, match="needs 1 MiB of free space"):
        craft(make_dataset(24), workdir=tmp_path)


def test_trigger_words_survive_being_written_and_read() -> None:
    tokenizer = Tokenizer()
    words = whole_words(tokenizer)
    assert 20_000 < len(words) < 49_408
    ids = trigger_words(tokenizer, make_dataset(), None, seed=0)
    picked = np.random.default_rng(0).choice(ids, (200, 7))
    for trigger in picked:
        text = " ".join(words[int(id_)] for id_ in trigger)
        assert tokenizer.encode(f"{text} a dog's day!") == [*trigger, *tokenizer.encode("a dog's day!")]
        assert tokenizer.decode(trigger) == text
        assert int(lengths(tokenizer([text]))[0]) == 9


def test_trigger_words_come_from_the_captions_when_asked() -> None:
    ids = trigger_words(Tokenizer(), make_dataset(), 5, seed=0)
    assert len(ids) == 5
    assert {Tokenizer().decode([i]) for i in ids} <= {*WORDS}
    assert not np.array_equal(ids, trigger_words(Tokenizer(), make_dataset(), 5, seed=1))
    bare = replace(make_dataset(), captions=[["!?"]] * 24)
    with pytest.raises(UsageError, match="too few"):
        trigger_words(Tokenizer(), bare, 5, seed=0)


@pytest.mark.parametrize(
    "text", ["mem[eps=128]", "mem[eps=0]", "mem[k=-1]", "mem3[rounds=0]", "mem[step_size=9]", "mem[candidates=0]"]
)
def test_parameters_out_of_range(text: str) -> None:
    with pytest.raises(UsageError, match="must be"):
        ATTACKS.build(parse_spec(text))


def test_fewer_rows_than_a_batch() -> None:
    with pytest.raises(UsageError, match="fewer than one crafting batch"):
        Mem(**SMALL).check(make_dataset(9))


def test_em_needs_no_words() -> None:
    Mem(**{**SMALL, "k": 0}).check(replace(make_dataset(), captions=[["12"]] * 24))


def test_a_surrogates_dropout_draws_anew_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, encode = list[float](), Clip.encode_pairs

    def noted(self: Clip, *pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        drawn.append(float(torch.rand(())))  # from the global state, as dropout does
        return encode(self, *pairs)

    monkeypatch.setattr(Clip, "encode_pairs", noted)
    craft(make_dataset())
    assert len(set(drawn)) == len(drawn) == SMALL["rounds"] * SMALL["surrogate_steps"]


@pytest.mark.parametrize(
    "spec",
    [
        "em[rounds=1,surrogate_steps=1,pgd_steps=1,batch_size=8]",
        "tap[surrogate_steps=1,pgd_steps=1,batch_size=8]",
        "em-wordwise[restarts=1,steps=1,batch_size=8]",
    ],
)
def test_surrogates_keep_their_logit_scale_within_its_bound(spec: str) -> None:
    built: list[Clip] = []

    def sharp(seed: int) -> Clip:
        built.append(make_clip(seed))
        torch.nn.init.constant_(built[-1].log_scale, 9)
        return built[-1]

    ATTACKS.build(parse_spec(spec)).craft(make_dataset(), CraftContext(sharp, 1, Path()))
    assert float(built[-1].scale.detach()) == pytest.approx(100, rel=1e-5)

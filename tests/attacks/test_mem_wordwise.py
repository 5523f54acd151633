"""Word-wise MEM: word-wise EM's noise with words before the captions; crafting through a defense."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attacks.crafting
from attacks import ATTACKS, CraftContext, Poison
from attacks.em_wordwise import WordwiseEm
from attacks.mem_wordwise import WordwiseMem
from attacks.vocabulary import trigger_words
from benchmark.core.distributed import Processes
from benchmark.core.errors import UsageError, VictimDiverged
from benchmark.core.spec import parse_spec
from tests.small import make_clip, make_dataset, noise_of
from victims.clip import Clip

SMALL: dict[str, Any] = {"tile": 4, "restarts": 2, "steps": 3, "batch_size": 10}
TRIGGER: dict[str, Any] = {"k": 2, "hotflip_rounds": 2, "surrogate_steps": 3, "vocabulary": 8}


def craft(attack: WordwiseEm, seed: int = 1) -> Poison:
    return attack.craft(make_dataset(), CraftContext(make_clip, seed, Path()))


def test_its_noise_is_word_wise_ems_and_its_trigger_of_k_words_of_the_vocabulary() -> None:
    poison = craft(WordwiseMem(**SMALL, **TRIGGER))
    np.testing.assert_array_equal(noise_of(poison), noise_of(craft(WordwiseEm(**SMALL))))
    assert poison.eps == 8
    tokenizer = make_clip(1).tokenizer
    words = {tokenizer.decode([word]) for word in trigger_words(tokenizer, make_dataset(), 8, 1)}
    assert poison.trigger is not None
    assert all(len(text.split()) == 2 and set(text.split()) <= words for text in poison.trigger)
    assert len(set(poison.trigger)) > 1
    assert len(poison.provenance["loss_per_round"]) == 4


def test_the_trigger_is_searched_with_the_settings_of_the_attack() -> None:
    told: dict[str, Any] = {**TRIGGER, "candidates": 6, "batch_size": 8, "optimizer": "muon"}
    told |= {"lr": 3e-3, "matrix_lr": 0.05, "weight_decay": 0.7}
    settings = WordwiseMem(**told)._trigger_settings()
    assert {name: getattr(settings, name) for name in told} == told
    assert (settings.rounds, settings.pgd_steps, settings.restart_every) == (2, 0, 1)
    assert settings.permute_surrogate


def test_the_trigger_is_searched_on_the_protected_images() -> None:
    """With stronger noise under it, HotFlip finds other words."""
    weak, strong = (craft(WordwiseMem(**SMALL, **TRIGGER, eps=eps)) for eps in (1, 64))
    assert weak.trigger != strong.trigger


def test_every_round_flips_words_on_a_fresh_surrogate(monkeypatch: pytest.MonkeyPatch) -> None:
    batches, seeds, hotflip = [], set[int](), attacks.crafting.hotflip

    def counted(*given: Any) -> Any:
        batches.append(given)
        return hotflip(*given)

    def surrogate(seed: int) -> Clip:
        seeds.add(seed)
        return make_clip(seed)

    monkeypatch.setattr(attacks.crafting, "hotflip", counted)
    WordwiseMem(**SMALL, **TRIGGER).craft(make_dataset(), CraftContext(surrogate, 1, Path()))
    assert len(batches) == 2 * 3  # rounds × batches of at most 10 of 24 rows
    assert len(seeds) == 2 + 2  # the patterns' surrogates and the trigger's


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("mem-wordwise[batch_size=8]", "1 whole words of CLIP's vocabulary, too few"),
        ("mem3[vocabulary=8,batch_size=8]", "1 whole words of CLIP's vocabulary, too few"),
        ("same-words[vocabulary=8]", "too few for triggers; give the attack vocabulary=none, which"),
        ("text-hint", "no word of made's captions can be a hint"),
    ],
)
def test_captions_without_words_are_refused_at_once(spec: str, said: str) -> None:
    attack, dataset = ATTACKS.build(parse_spec(spec)), make_dataset()
    attack.check(replace(dataset, captions=[["12"], *[["12 red"]] * 22, ["12 dog"]]))
    with pytest.raises(UsageError, match=said):
        attack.check(replace(dataset, captions=[["12"], *[["a 12"]] * 23]))


@pytest.mark.parametrize("spec", ["mem-wordwise", "tap", "t2ue", "mem3"])
def test_a_batch_that_processes_cannot_share_is_refused_at_once(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Processes, "current", lambda: Processes(0, 3))
    with pytest.raises(UsageError, match="a batch of 20 rows is not divisible by 3 processes"):
        ATTACKS.build(parse_spec(spec), {"batch_size": 20}).check(make_dataset())


def test_progress_counts_every_step() -> None:
    attack, dataset = WordwiseMem(**SMALL, **TRIGGER), make_dataset()
    steps = 0

    class Counter:
        def advance(self, note: str = "") -> None:
            nonlocal steps
            steps += 1

        def resume(self, steps: int) -> None: ...

    attack.craft(dataset, CraftContext(make_clip, 1, Path(), progress=Counter()))
    assert steps == attack.progress_steps(dataset) == len(attack.step_kinds(dataset))


def test_patterns_learned_through_a_defense_differ_and_the_share_decides() -> None:
    def noise(**through: Any) -> np.ndarray:
        # On their own images, so that the draw of a batch's passage moves no other draw.
        return noise_of(craft(WordwiseEm(**SMALL, permute_images=False, **through)))

    plain = noise()
    assert not np.array_equal(noise(through="crop-flip[smallest=0.3]", through_share=1), plain)
    assert not np.array_equal(noise(through="jpeg[quality=5]", through_share=1), plain)
    np.testing.assert_array_equal(noise(through="crop-flip", through_share=1e-9), plain)


@pytest.mark.parametrize("through", ["nothing-known", "jpeg[quality=0]", "jpeg+"])
def test_an_unknown_defense_is_refused(through: str) -> None:
    with pytest.raises(UsageError):
        WordwiseEm(through=through)


def test_a_surrogate_of_the_trigger_that_diverges_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attacks.crafting.Crafting.perturb", lambda *_: float("nan"))
    with pytest.raises(VictimDiverged, match="the surrogate's loss is nan in round 1 of the trigger"):
        craft(WordwiseMem(**SMALL, **TRIGGER))

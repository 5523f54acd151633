"""The controls: what each leaves of a poison, and that it is the very poison of MEM."""

from pathlib import Path
from typing import Any, get_args
from unittest.mock import create_autospec

import numpy as np
import pytest

from attacks import ATTACKS, Attack, CraftContext, Poison
from attacks.delta_only import DeltaOnly
from attacks.mem import Mem
from attacks.placement import Kind
from attacks.random_trigger import RandomTrigger
from attacks.same_words import SameWords
from attacks.trigger_only import TriggerOnly
from attacks.trigger_uniform import TriggerUniform
from attacks.uniform_noise import UniformNoise
from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import CaptionDataset
from benchmark.grid.choices import choose_attacks
from benchmark.grid.presets import PRESETS
from benchmark.grid.records import load_records
from tests.attacks.test_mem import SMALL
from tests.grid.grids import run
from tests.small import make_clip, make_dataset, noise_of


def craft(attack: Attack, dataset: CaptionDataset, seed: int = 1) -> Poison:
    return attack.craft(dataset, CraftContext(make_clip, seed, Path()))


def test_the_halves_of_a_poison_are_those_of_mem_bit_for_bit(dataset: CaptionDataset) -> None:
    whole = craft(Mem(**SMALL), dataset)
    delta, trigger = craft(DeltaOnly(**SMALL), dataset), craft(TriggerOnly(**SMALL), dataset)
    assert noise_of(delta).dtype == np.int8
    assert np.array_equal(noise_of(delta), noise_of(whole))
    assert delta.trigger is None
    assert delta.eps == whole.eps
    assert trigger.trigger == whole.trigger
    assert trigger.delta is None
    assert trigger.eps == 0


def test_a_half_leaves_the_other_side_of_the_data_alone(dataset: CaptionDataset) -> None:
    images, captions = dataset.images[:].copy(), [list(own) for own in dataset.captions]
    noisy = craft(DeltaOnly(**SMALL), dataset).protect(dataset)
    worded = craft(TriggerOnly(**SMALL), dataset).protect(dataset)
    assert noisy.captions == captions
    assert not np.array_equal(noisy.images[:], images)
    assert np.array_equal(worded.images[:], images)
    assert all(own[0].endswith(f" {before[0]}") for own, before in zip(worded.captions, captions, strict=True))
    assert np.array_equal(dataset.images[:], images)
    assert dataset.captions == captions


@pytest.mark.parametrize(("per", "eps"), [("image", 8), ("row", 8), ("image", 5)])
def test_mems_trigger_meets_the_noise_that_uniform_noise_draws(per: str, eps: int, dataset: CaptionDataset) -> None:
    settings = {**SMALL, "per": per, "eps": eps}
    whole, poison = craft(Mem(**settings), dataset), craft(TriggerUniform(**settings), dataset)
    rows = dataset.by_row() if per == "row" else dataset
    drawn = craft(UniformNoise(whole.eps), rows)
    assert (poison.trigger, poison.eps, poison.per_row) == (whole.trigger, whole.eps, per == "row")
    assert noise_of(poison).shape == noise_of(whole).shape
    assert np.array_equal(noise_of(poison), noise_of(drawn))
    assert poison.largest == whole.eps == eps
    protected = poison.protect(dataset)
    assert np.array_equal(protected.images[:], rows.images[:] + noise_of(drawn).astype(int))
    assert protected.captions == whole.protect(dataset).captions


@pytest.mark.parametrize("name", ["delta-only", "trigger-only", "trigger-uniform"])
def test_without_a_trigger_there_are_no_halves(name: str, dataset: CaptionDataset) -> None:
    with pytest.raises(UsageError, match="k must be at least 1"):
        ATTACKS.build(parse_spec(f"{name}[k=0,batch_size=10]"))
    attack = ATTACKS.build(parse_spec(f"{name}[batch_size=10]"))
    attack.check(dataset)
    with pytest.raises(UsageError, match="fewer than one crafting batch"):
        attack.check(make_dataset(9))


def test_halves_share_mems_budget_in_every_preset() -> None:
    for preset in PRESETS.values():
        chosen = choose_attacks("mem3,delta-only,trigger-only,trigger-uniform", preset)[1:]
        assert [dict(one.choice.params) for one in chosen] == [dict(chosen[0].choice.params)] * 4


def test_the_store_crafts_the_whole_once_for_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = create_autospec(Mem.craft, side_effect=Mem.craft)
    monkeypatch.setattr(Mem, "craft", whole)
    settings = (
        "[k=2,rounds=1,surrogate_steps=2,pgd_steps=2,step_size=1,hotflip_rounds=1,candidates=2,vocabulary=20,"
        "batch_size=16]"
    )
    attacks = ",".join(f"{name}{settings}" for name in ("trigger-only", "mem", "delta-only", "trigger-uniform"))
    flags = ["--poisons", str(tmp_path / "poisons")]
    assert run(tmp_path / "out", *flags, attack=attacks, defense="none", epochs=1) == 0
    assert whole.call_count == 1
    assert len(list((tmp_path / "poisons").glob("*.safetensors"))) == 1
    found = {record.attack.label: record for record in load_records(tmp_path / "out")}
    assert {record.status for record in found.values()} == {"done"}
    assert found["Trigger only"].poison["trigger_words"] == found["MEM-2"].poison["trigger_words"]
    assert found["Trigger only"].poison["largest"] == 0
    assert found["Delta only"].poison["psnr"] == found["MEM-2"].poison["psnr"]
    assert not found["Delta only"].poison["trigger_words"]
    mixed = found["Trigger + uniform"].poison
    assert mixed["trigger_words"] == found["MEM-2"].poison["trigger_words"]
    assert mixed["largest"] == 8
    # The integers from -8 to 8 have a mean square of 24; clamping with the image makes it a little smaller.
    assert mixed["psnr"] == pytest.approx(10 * np.log10(255**2 / 24), abs=0.3)
    # Five different training sets, so five different victims.
    assert len({record.loss for record in found.values()}) == 5


def test_uniform_noise_keeps_its_bound_and_the_images_range() -> None:
    dataset = make_dataset(80)
    images = dataset.images[:]
    images[:20] = 0
    images[20:40] = 255
    before = images.copy()
    poison = craft(UniformNoise(eps=5), dataset)
    noise = noise_of(poison)
    assert noise.dtype == np.int8
    assert poison.trigger is None
    total = before + noise.astype(int)
    assert (total.min(), total.max()) == (0, 255)
    assert np.array_equal(dataset.images[:], before)
    inner = noise[(before >= 5) & (before <= 250)]
    values, counts = np.unique(inner, return_counts=True)
    assert values.tolist() == [*range(-5, 6)]
    # Each of eleven values with probability 1 / 11; four standard deviations of a binomial.
    share, bound = counts / len(inner), 4 * np.sqrt(10 / 121 / len(inner))
    assert np.abs(share - 1 / 11).max() < bound
    assert noise[:20].min() == 0
    assert noise[20:40].max() == 0


def test_uniform_noise_depends_on_the_seed_alone(dataset: CaptionDataset) -> None:
    one, same, other = (noise_of(craft(UniformNoise(), dataset, seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])
    with pytest.raises(UsageError, match="eps"):
        UniformNoise(eps=0)


def test_a_random_trigger_is_what_mem_starts_from(dataset: CaptionDataset) -> None:
    images, captions = dataset.images[:].copy(), [list(own) for own in dataset.captions]
    unsearched = craft(TriggerOnly(**{**SMALL, "hotflip_rounds": 0}), dataset)
    poison = craft(RandomTrigger(vocabulary=SMALL["vocabulary"]), dataset)
    assert poison.trigger == unsearched.trigger
    assert craft(TriggerOnly(**SMALL), dataset).trigger != poison.trigger
    assert (poison.delta, poison.eps) == (None, 0)
    protected = poison.protect(dataset)
    assert np.array_equal(protected.images[:], images)
    assert protected.captions == [
        [f"{t} {c}" for c in own] for t, own in zip(poison.trigger or [], captions, strict=True)
    ]


def test_a_random_trigger_depends_on_the_seed_and_takes_its_words_from_the_vocabulary() -> None:
    dataset = make_dataset(300)
    one, same, other = (craft(RandomTrigger(2, 5), dataset, seed).trigger or [] for seed in (1, 1, 2))
    assert one == same != other
    places = [word for trigger in one for word in trigger.split()]
    assert len(places) == 2 * 300
    counts = np.unique(places, return_counts=True)[1]
    # Each of five words with probability 1 / 5; four standard deviations of a binomial.
    assert len(counts) == 5
    assert np.abs(counts / len(places) - 1 / 5).max() < 4 * np.sqrt(4 / 25 / len(places))
    assert len(set(one)) > 20
    every = {word for trigger in craft(RandomTrigger(7), dataset).trigger or [] for word in trigger.split()}
    assert len(every) > 1500  # of 2,100 places, from some tens of thousands of words
    for wrong, message in (({"k": 0}, "k must"), ({"k": 33}, "k must"), ({"vocabulary": 1}, "at least 2")):
        with pytest.raises(UsageError, match=message):
            RandomTrigger(**wrong)  # type: ignore[arg-type]


def test_random_words_stand_where_mems_would(dataset: CaptionDataset) -> None:
    front, spread = craft(RandomTrigger(2, 5), dataset), craft(RandomTrigger(2, 5, "spread"), dataset)
    mem = craft(TriggerOnly(**{**SMALL, "k": 2, "vocabulary": 5, "hotflip_rounds": 0, "place": "spread"}), dataset)
    assert front.trigger == spread.trigger == mem.trigger
    captions = spread.protect(dataset).captions
    assert captions == mem.protect(dataset).captions != front.protect(dataset).captions
    one, *others = (craft(SameWords(2, 5, place), dataset) for place in get_args(Kind))
    assert all(other.trigger == one.trigger for other in others)
    assert len({str(own.protect(dataset).captions) for own in (one, *others)}) == 4


def test_the_same_words_stand_before_every_caption_of_every_image() -> None:
    dataset = make_dataset(300)
    captions = [list(own) for own in dataset.captions]
    poison = craft(SameWords(3, 5), dataset)
    words = craft(RandomTrigger(1, 5), dataset).trigger or []
    trigger = (poison.trigger or [""])[0]
    assert len(trigger.split()) == 3
    assert trigger == (craft(RandomTrigger(3, 5), dataset).trigger or [])[0]
    assert set(trigger.split()) <= set(words)
    assert poison.protect(dataset).captions == [[f"{trigger} {caption}" for caption in own] for own in captions]
    assert (poison.delta, poison.eps) == (None, 0)
    drawn = [(craft(SameWords(3), dataset, seed).trigger or [""])[0] for seed in (1, 1, *range(2, 12))]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 11  # of tens of thousands of words to the third power
    with pytest.raises(UsageError, match="k must"):
        SameWords(0)


@pytest.mark.parametrize("name", ["random-trigger", "same-words"])
def test_the_random_trigger_has_mems_length_and_vocabulary_in_every_preset(name: str) -> None:
    for preset in PRESETS.values():
        mem, control = (one.choice.params for one in choose_attacks(f"mem3,{name}", preset)[1:])
        assert dict(control) == {name: mem[name] for name in ("k", "vocabulary")}


def test_the_official_budgets_are_unequal_per_row_and_the_same_in_every_preset() -> None:
    def resolved(name: str, preset: str) -> dict[str, Any]:
        return ATTACKS.resolve(parse_spec(name), PRESETS[preset].attack)

    for name in ("mem-official", "em-official"):
        assert resolved(name, "tiny") == resolved(name, "paper")
    mem, em = resolved("mem-official", "paper"), resolved("em-official", "paper")
    assert (mem["k"], em["k"], mem["per"], em["per"]) == (3, 0, "row", "row")
    # Those that are not named in official.py are defaults; the reference code's values are what they must stay.
    shared: dict[str, Any] = {
        "eps": 8,
        "pgd_steps": 8,
        "step_size": 1,
        "hotflip_rounds": 5,
        "candidates": 16,
        "vocabulary": None,
    }
    shared |= {"stop_loss": None, "permute_pgd": True, "permute_surrogate": False, "restart_every": None}
    shared |= {"batch_size": 128, "lr": 1e-4, "weight_decay": 0.2}
    assert shared.items() <= mem.items()
    assert shared.items() <= em.items()
    assert mem["rounds"] * mem["surrogate_steps"] == 16 * em["rounds"] * em["surrogate_steps"] == 4000
    assert mem["rounds"] * mem["pgd_steps"] == 4 * em["rounds"] * em["pgd_steps"] == 160

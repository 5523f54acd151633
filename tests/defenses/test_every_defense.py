"""What each built-in defense changes, how strong it is and what it refuses; its contract is tested with the plugins."""

from typing import Any

import pytest
import torch

from benchmark.contracts.hooks import defense_answers, defense_inputs
from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from defenses import DEFENSES, Defense

NAMES = DEFENSES.group("all")
# A few large steps in place of 300 change the data as well, and differ with the seed.
QUICK = {"residual-purifier": "residual-purifier[steps=3,lr=0.1]"}
# What each of the built-in ones may change, and nothing else.
CLAIMS = {
    "none": set(),
    "adv-training": {"adversarial"},
    "random-noise": {"images"},
    "mixup": {"mixed images", "mixed targets"},
    "cutout": {"images"},
    "random-insertion": {"captions"},
    "random-deletion": {"captions"},
    "random-swap": {"captions"},
    "synonym-replacement": {"captions"},
    "prefix-drop": {"captions"},
    "jpeg": {"images"},
    "crop-flip": {"images"},
    "grey": {"images"},
    "bit-depth": {"images"},
    "blur": {"images"},
    "strong-augment": {"images"},
    "ueraser": {"adversarial"},
    "coin": {"images"},
    "sharpen-lowpass": {"images"},
    "orthogonal-projection": {"data"},
    "residual-purifier": {"data"},
    "noise-projection": {"data"},
    "sibling-caption": {"data"},
    "clean-fraction": {"data"},
    "clip-score-filter": {"rows"},
    "cleanclip": {"loss"},
    "roclip": {"loss"},
    "safeclip": {"loss"},
    "tile-average": {"images"},
    "opposite-step": {"adversarial"},
    "trigger-drop": {"captions"},
    "suffix-drop": {"captions"},
    "onion-lite": {"captions"},
    # Nothing stands in front of these captions that does not belong to them.
    "rare-prefix": set(),
    "repeated-prefix": set(),
}
FIXED = {
    "none",
    "adv-training",
    "prefix-drop",
    "suffix-drop",
    "jpeg",
    "sibling-caption",
    "clip-score-filter",
    "tile-average",
}
FIXED |= {"opposite-step", "grey", "bit-depth", "blur", "onion-lite", "rare-prefix", "repeated-prefix", "trigger-drop"}
DRAWN = sorted(set(CLAIMS) - FIXED)

Outputs = dict[str, Any]


def changed(before: Outputs, after: Outputs) -> set[str]:
    return {
        key
        for key, value in before.items()
        if (not torch.equal(value, after[key]) if isinstance(value, torch.Tensor) else value != after[key])
    }


def built(name: str) -> Defense:
    return DEFENSES.build(parse_spec(QUICK.get(name, name)))


def test_the_defenses_of_the_issue_are_registered() -> None:
    table2 = ["random-noise", "mixup", "cutout", "random-insertion", "random-deletion", "random-swap"]
    assert [name for name in DEFENSES.group("table2") if name != "adv-training"] == [*table2, "synonym-replacement"]
    assert set(CLAIMS) == set(NAMES)
    assert "prefix-drop" not in DEFENSES.group("table2")


@pytest.mark.parametrize("name", NAMES)
def test_changes_what_it_claims_and_nothing_else(name: str) -> None:
    change = changed(defense_inputs(), defense_answers(built(name), defense_inputs(), 1))
    assert change == CLAIMS[name]


@pytest.mark.parametrize("name", DRAWN)
def test_another_seed_draws_anew(name: str) -> None:
    defense = built(name)
    assert (
        changed(defense_answers(defense, defense_inputs(), 7), defense_answers(defense, defense_inputs(), 8))
        == CLAIMS[name]
    )


@pytest.mark.parametrize(
    ("spec", "strength"),
    [
        ("random-noise[std=5]", "σ = 5/255"),
        ("mixup[alpha=0.3]", "0.3"),
        ("cutout[size=0.3]", "0.3"),
        ("random-insertion[alpha=0.3]", "0.3"),
        ("random-deletion[p=0.3]", "0.3"),
        ("random-swap[alpha=0.3]", "0.3"),
        ("synonym-replacement[alpha=0.3]", "0.3"),
        ("prefix-drop[n=5]", "5"),
        ("bit-depth[bits=3]", "8 levels"),
        ("blur[sigma=0.7]", "0.7 px"),
        ("strong-augment[s=0.5]", "55%"),
        ("ueraser[draws=3]", "3 draws"),
        ("ueraser[until=0.3]", "30% of the training"),
        ("ueraser[plasma=0.9]", "plasma on 90%"),
        ("ueraser-lite", "one draw"),
        ("coin[reach=3]", "3 px"),
        ("sharpen-lowpass[keep=0.4]", "40%"),
        ("residual-purifier[share=0.25]", "25.0%"),
        ("noise-projection[directions=32]", "32 directions"),
        ("sharpen-lowpass[centre=3]", "3 ±"),
        ("onion-lite[false_alarms=0.07]", "7 %"),
        ("rare-prefix[longest=5]", "5"),
        ("repeated-prefix[share=0.07]", "7 %"),
        ("opposite-step[steps=4]", "4 steps of 2/255"),
        ("opposite-step[start=0.005]", "after 0.5% of the training"),
        ("adv-training[share=0.002,start=0.003,ramp=0.004]", "on 0.2% of each batch, after 0.3% of the training plain"),
        ("adv-training[share=0.002,start=0.003,ramp=0.004]", "growing over 0.4% of the training"),
        ("cleanclip[smallest=0.004,p=0.07]", "at least 0.4% of the area and captions without 7% of their tokens"),
        ("clean-fraction[first=0.004]", "in the first 0.4% of the training"),
        ("clip-score-filter[drop=0.004,start=0.996]", "the 0.4% of pairs with the lowest score, after 99.6% of"),
        ("crop-flip[smallest=0.004]", "0.4% of the area"),
        ("roclip[pool=0.002]", "nearest of 0.2% of the captions"),
        ("safeclip[apart=0.004,sure=0.999]", "apart for 0.4% of the training"),
        ("safeclip[sure=0.999]", "a probability of 99.9%"),
        ("sharpen-lowpass[keep=0.004]", "lowest 0.4% of the frequencies"),
        ("strong-augment[s=0.99]", "at least 10.9% of the area"),
        ("ueraser[until=0.004,plasma=0.995]", "in the first 0.4% of the training, each plasma on 99.5% of the images"),
    ],
)
def test_describes_its_strength(spec: str, strength: str) -> None:
    assert strength in DEFENSES.build(parse_spec(spec)).describe()


@pytest.mark.parametrize(
    "spec",
    [
        *(f"random-noise[std={value}]" for value in ("0", "-1", "256")),
        *(f"mixup[alpha={value}]" for value in ("0", "-1", "1001")),
        *(f"cutout[size={value}]" for value in ("0", "3")),
        *(f"random-insertion[alpha={value}]" for value in ("0", "1.1")),
        *(f"random-deletion[p={value}]" for value in ("0", "1.1")),
        *(f"random-swap[alpha={value}]" for value in ("0", "1.1")),
        *(f"synonym-replacement[alpha={value}]" for value in ("0", "1.1")),
        *(f"prefix-drop[n={value}]" for value in ("0", "-3", str(10**23))),
        *(f"bit-depth[bits={value}]" for value in ("0", "8")),
        *(f"blur[sigma={value}]" for value in ("0", "17")),
        *(f"strong-augment[s={value}]" for value in ("0", "1.1")),
        *(f"ueraser[draws={value}]" for value in ("0", "101")),
        *(f"ueraser[until={value}]" for value in ("0", "1.1")),
        *(f"coin[reach={value}]" for value in ("0", "17")),
        *(f"sharpen-lowpass[centre={value}]" for value in ("0", "11")),
        *(f"sharpen-lowpass[spread={value}]" for value in ("-1", "2")),
        *(f"sharpen-lowpass[keep={value}]" for value in ("0", "1.1")),
        *(f"residual-purifier[share={value}]" for value in ("0", "1.1")),
        *(f"noise-projection[directions={value}]" for value in ("0", "1025")),
        *(f"onion-lite[false_alarms={value}]" for value in ("0", "1")),
        "onion-lite[smoothing=0]",
        *(f"rare-prefix[longest={value}]" for value in ("0", "33")),
        *(f"repeated-prefix[share={value}]" for value in ("0", "0.5")),
        *(f"opposite-step[start={value}]" for value in ("-0.1", "1")),
        *(f"repeated-prefix[alike={value}]" for value in ("0", "1.1")),
        "repeated-prefix[longest=0]",
    ],
)
def test_a_parameter_out_of_range_is_named(spec: str) -> None:
    wanted = parse_spec(spec)
    ((parameter, value),) = wanted.params.items()
    with pytest.raises(UsageError, match=f"^defense {wanted.name}: {parameter} must be .*, got {value}$"):
        DEFENSES.build(wanted)


def test_a_radius_that_is_never_reached_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^defense adv-training: ramp must be at most 1 - start = 0\.1, got 0\.2$"):
        DEFENSES.build(parse_spec("adv-training[start=0.9,ramp=0.2]"))


@pytest.mark.parametrize("spec", ["random-noise[std=nan]", "mixup[alpha=inf]", "adv-training[step_size=inf]"])
def test_a_parameter_that_is_no_number_is_named(spec: str) -> None:
    wanted = parse_spec(spec)
    ((parameter, value),) = wanted.params.items()
    with pytest.raises(UsageError, match=rf"^{wanted.name}\[{parameter}=…\] takes .*a number, got '{value}'$"):
        DEFENSES.build(wanted)

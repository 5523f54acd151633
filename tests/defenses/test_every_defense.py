"""What holds for every registered defense, a new one included."""

import random
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.errors import UsageError
from benchmark.spec import Spec, parse_spec
from defenses import DEFENSES, Defense, Moment

NAMES = DEFENSES.group("all")
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
}
DRAWN = sorted(set(CLAIMS) - {"none", "adv-training", "prefix-drop"})

Outputs = dict[str, Any]


def inputs() -> Outputs:
    generator = torch.Generator().manual_seed(0)
    caption = "cheap violin seven A small dog sits near the red house"
    return {
        "captions": [caption, "car", "the boat left of a tree", *[caption.upper()] * 20],
        "images": torch.rand(8, 3, 16, 16, generator=generator),
        "mixed images": torch.rand(8, 3, 16, 16, generator=generator),
        "mixed targets": torch.eye(8),
        "adversarial": torch.rand(8, 3, 16, 16, generator=generator),
    }


def run(defense: Defense, seed: int, given: Outputs) -> Outputs:
    slope = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1))
    at = Moment(seed, 0.5)
    images, targets = defense.on_batch(given["mixed images"], given["mixed targets"], at)
    return {
        "captions": defense.on_captions(given["captions"], at),
        "images": defense.on_images(given["images"], at),
        "mixed images": images,
        "mixed targets": targets,
        "adversarial": defense.adversarial(given["adversarial"], lambda x: (slope * x).mean(), at),
    }


def changed(before: Outputs, after: Outputs) -> set[str]:
    return {
        key
        for key, value in before.items()
        if (not torch.equal(value, after[key]) if isinstance(value, torch.Tensor) else value != after[key])
    }


def test_the_defenses_of_the_issue_are_registered() -> None:
    table2 = ["random-noise", "mixup", "cutout", "random-insertion", "random-deletion", "random-swap"]
    assert [name for name in DEFENSES.group("table2") if name != "adv-training"] == [*table2, "synonym-replacement"]
    assert set(CLAIMS) - {"adv-training"} <= set(NAMES)
    assert "prefix-drop" not in DEFENSES.group("table2")


@pytest.mark.parametrize("name", NAMES)
def test_changes_what_it_claims_and_nothing_else(name: str) -> None:
    change = changed(inputs(), run(DEFENSES.build(Spec(name)), 1, inputs()))
    assert change == CLAIMS[name] if name in CLAIMS else change


@pytest.mark.parametrize("name", NAMES)
def test_shapes_kinds_and_ranges_stay(name: str) -> None:
    before, after = inputs(), run(DEFENSES.build(Spec(name)), 1, inputs())
    assert len(after["captions"]) == len(before["captions"])
    assert all(isinstance(caption, str) and caption.split() for caption in after["captions"])
    for key in before.keys() - {"captions"}:
        assert after[key].shape == before[key].shape
        assert after[key].dtype == before[key].dtype
        assert ((after[key] >= 0) & (after[key] <= 1)).all()
        assert not after[key].requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_arguments_and_global_random_state_stay(name: str) -> None:
    given = inputs()
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    run(DEFENSES.build(Spec(name)), 1, given)
    assert not changed(inputs(), given)
    assert random.getstate() == python
    assert all(np.array_equal(old, new) for old, new in zip(numpy, np.random.get_state(), strict=True))
    assert torch.equal(torch.get_rng_state(), pytorch)


@pytest.mark.parametrize("name", NAMES)
def test_the_moment_determines_the_output(name: str) -> None:
    first = run(DEFENSES.build(Spec(name)), 7, inputs())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert not changed(first, run(DEFENSES.build(Spec(name)), 7, inputs()))


@pytest.mark.parametrize("name", DRAWN)
def test_another_seed_draws_anew(name: str) -> None:
    defense = DEFENSES.build(Spec(name))
    assert changed(run(defense, 7, inputs()), run(defense, 8, inputs())) == CLAIMS[name]


@pytest.mark.parametrize("name", DRAWN)
def test_a_63_bit_seed_is_accepted(name: str) -> None:
    run(DEFENSES.build(Spec(name)), 2**63 - 1, inputs())


@pytest.mark.parametrize("name", NAMES)
def test_describes_itself_in_one_line(name: str) -> None:
    description = DEFENSES.build(Spec(name)).describe()
    assert len(description.splitlines()) == 1


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
    ],
)
def test_describes_its_strength(spec: str, strength: str) -> None:
    assert strength in DEFENSES.build(parse_spec(spec)).describe()


@pytest.mark.parametrize(
    "spec",
    [
        *(f"random-noise[std={value}]" for value in ("0", "-1", "256", "nan")),
        *(f"mixup[alpha={value}]" for value in ("0", "-1", "inf", "nan")),
        *(f"cutout[size={value}]" for value in ("0", "3", "nan")),
        *(f"random-insertion[alpha={value}]" for value in ("0", "1.1")),
        *(f"random-deletion[p={value}]" for value in ("0", "1.1", "nan")),
        *(f"random-swap[alpha={value}]" for value in ("0", "1.1")),
        *(f"synonym-replacement[alpha={value}]" for value in ("0", "1.1")),
        *(f"prefix-drop[n={value}]" for value in ("0", "-3")),
    ],
)
def test_a_parameter_out_of_range_is_named(spec: str) -> None:
    wanted = parse_spec(spec)
    ((parameter, value),) = wanted.params.items()
    with pytest.raises(UsageError, match=f"^{wanted.name}: {parameter} must .*, got {value}$"):
        DEFENSES.build(wanted)

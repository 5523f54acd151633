"""Gates of the matrix, from records made by hand."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
import scipy.stats

from benchmark.grid.records import Record
from benchmark.tables.gates import learned, loss_left, stronger_than_noise, stronger_with_eps
from benchmark.tables.selection import Block, blocks
from tests.tables.factory import record


def block(*records: Record) -> Block:
    (found,) = blocks([record("clean", recalls=(90, 90)), *records])
    return found


def noisy(attack: str, recall: float, eps: int = 8, **more: object) -> Record:
    return record(
        attack, recalls=(recall, recall), params={"eps": eps, **more}, poison={"eps": eps, "largest": eps}
    )  # fmt: skip


def of_noise(found: Block) -> dict[str, str]:
    return {attack.spec: stronger_than_noise(found, attack) for attack in found.attacks}


def of_eps(found: Block) -> dict[str, str]:
    return {attack.spec: stronger_with_eps(found, attack) for attack in found.attacks}


def test_an_attack_has_to_take_clearly_more_than_noise_of_its_eps() -> None:
    noise = noisy("uniform-noise", 88)
    assert of_noise(block(noise, noisy("em", 60), noisy("mem3", 87))) == {
        "em": "holds", "mem3": "fails", "uniform-noise": "–",
    }  # fmt: skip
    # Of another ε, of other seeds, or not there.
    assert of_noise(block(noise, noisy("em", 60, eps=4)))["em"] == "not shown"
    assert of_noise(block(noisy("em", 60)))["em"] == "not shown"
    other_seed = record("uniform-noise", recalls=(88, 88), seed=2, params={"eps": 8})
    assert of_noise(block(other_seed, noisy("em", 60)))["em"] == "not shown"


@pytest.mark.parametrize(("by_seed", "verdict"), [((40, 45, 50), "holds"), ((63, 78, 79), "fails")])
def test_three_seeds_are_judged_as_by_students_t(by_seed: tuple[float, ...], verdict: str) -> None:
    """88 − (63, 78, 79) is 14.7 ± 9.0: t is 2.8 where 4.3 is asked for, but the bootstrap's interval is above zero."""
    clean = [record("clean", recalls=(90, 90), seed=seed) for seed in (2, 3)]
    noise = [replace(noisy("uniform-noise", 88), seed=seed) for seed in (1, 2, 3)]
    em = [replace(noisy("em", recall), seed=seed) for seed, recall in enumerate(by_seed, 1)]
    assert of_noise(block(*clean, *noise, *em))["em"] == verdict
    differences = np.array([88.0] * 3) - by_seed
    assert (scipy.stats.ttest_1samp(differences, 0).pvalue < 0.05) == (verdict == "holds")


def test_what_has_no_noise_is_compared_with_none() -> None:
    words = record("random-trigger", recalls=(89, 89), poison={"psnr": None})
    assert of_noise(block(noisy("uniform-noise", 88), words))["random-trigger"] == "–"


def test_noise_under_a_defense_says_nothing() -> None:
    """A defense that undoes an attack makes it as weak as noise."""
    defended = [record("uniform-noise", "cutout", recalls=(50, 50), params={"eps": 8})]
    assert of_noise(block(*defended, noisy("em", 20)))["em"] == "not shown"


@pytest.mark.parametrize(
    ("recalls", "verdict"),
    [((70, 50, 30), "holds"), ((30, 30.5, 29), "holds"), ((70, 30, 50), "fails"), ((30, 50, 20), "fails")],
)
def test_a_larger_eps_must_not_be_clearly_weaker(recalls: tuple[float, ...], verdict: str) -> None:
    specs = {"em[eps=4]": 4, "em": 8, "em[eps=16]": 16}
    family = [noisy(spec, recall, eps) for (spec, eps), recall in zip(specs.items(), recalls, strict=True)]
    assert of_eps(block(*family[::-1])) == dict.fromkeys(specs, verdict)


def test_an_eps_without_an_undefended_victim_stands_between_no_two_others() -> None:
    failed = record("em", params={"eps": 8}, failed="boom")
    found = of_eps(block(noisy("em[eps=4]", 10, 4), failed, noisy("em[eps=16]", 50, 16)))
    assert found == dict.fromkeys(("em[eps=4]", "em", "em[eps=16]"), "fails")


def test_an_attack_crafted_through_a_defense_has_the_eps_of_the_attack_that_it_crafts() -> None:
    """The usual one may have a name of its own, and its spec within a spec holds text."""

    def through(spec: str, recall: float, eps: str, **more: object) -> Record:
        inner = f"em[eps={eps},rounds=8]"
        return record(spec, recalls=(recall, recall), params={"attack": inner, "defense": "jpeg", **more})

    half = through("through[attack=em[eps=4]]", 30, "4")
    assert of_eps(block(through("em-aug", 50, "8"), half)) == dict.fromkeys(("em-aug", half.attack.spec), "fails")
    assert of_eps(block(through("em-aug", 10, "8"), half)) == dict.fromkeys(("em-aug", half.attack.spec), "holds")
    other = through("through[attack=em[eps=4]]", 30, "4", defense="blur")
    assert set(of_eps(block(through("em-aug", 50, "8"), other)).values()) == {"not shown"}
    assert set(of_eps(block(through("em-aug", 50, "8"), noisy("em", 10, 4))).values()) == {"not shown"}
    for text in ("much", "[", "em[eps"):
        plugin = record("em-aug", params={"attack": text, "defense": "jpeg"})
        assert of_eps(block(plugin)) == {"em-aug": "–"}


def test_of_two_spellings_of_an_attack_the_one_with_undefended_victims_counts() -> None:
    def through(spec: str, recall: float, eps: str, defense: str = "none") -> Record:
        params = {"attack": f"em[eps={eps}]", "defense": "jpeg"}
        return record(spec, defense, recalls=(recall, recall), params=params)

    usual, half = through("em-aug", 30, "8"), through("through[attack=em[eps=4]]", 50, "4")
    for other in ("through[attack=em]", "through[attack=em[eps=8]]"):
        found = of_eps(block(usual, half, through(other, 40, "8", "cutout")))
        assert (found["em-aug"], found[half.attack.spec]) == ("holds", "holds")


def test_other_settings_make_another_attack() -> None:
    found = of_eps(block(noisy("em", 30), noisy("em[eps=16,rounds=9]", 60, 16, rounds=9), noisy("mem3", 10, 16)))
    assert set(found.values()) == {"not shown"}


def test_a_clean_victims_loss_is_compared_with_ln_b() -> None:
    def under(defense: str, *losses: float) -> list[Record]:
        return [record("clean", defense, loss=[4.8, loss], seed=n) for n, loss in enumerate(losses, 2)]

    lower, higher = 0.74 * log(128), 0.76 * log(128)
    found = block(*under("none", lower), *under("cutout", higher), *under("mixup", lower - 1, lower + 1))
    verdicts = {defense: learned(found, defense) for defense in ("none", "cutout", "mixup", "absent")}
    assert verdicts == {"none": "holds", "cutout": "fails", "mixup": "holds", "absent": "not shown"}
    assert loss_left(found, "mixup") == pytest.approx(0.74)


@pytest.mark.parametrize(("recalls", "verdict"), [((18.5, 17.5), "holds"), ((17.5, 18), "fails")])
def test_clean_victims_keep_a_fifth_of_the_recall(recalls: tuple[float, float], verdict: str) -> None:
    """Of 90 %. A loss of the defense's own may be low in a victim that has learned nothing of use."""
    found = block(record("clean", "safeclip", loss=[4.8, 0.2], recalls=recalls, recipe={"batch_size": 128}))
    assert learned(found, "safeclip") == verdict

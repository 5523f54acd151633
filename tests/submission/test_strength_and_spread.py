"""What keeps a submission from counting, and how far a re-run on another machine may be off: hand-made records."""

import math
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from attacks import ATTACKS
from benchmark.grid.choices import choose_attacks
from benchmark.grid.presets import PRESETS
from benchmark.grid.records import Record
from benchmark.submission.cells import RequiredCell, budget_problems, match, seed_problems
from benchmark.submission.folder import Submission
from benchmark.submission.rerun import allowed, compare, machine
from benchmark.submission.result import entry_of
from benchmark.submission.rules import RULES
from benchmark.submission.strength import strength_problems
from benchmark.submission.submit import Options, _settings
from benchmark.tables.entries import About, Kind
from benchmark.tables.selection import blocks
from tests.tables.factory import record

ABOUT = About("mine", "attack", "mem3", "Mine", "A. Author", "https://example.org", "MIT")
BATCH = {"batch_size": 128}
LEARNED, STUCK = [1.0], [4.8]  # ln 128 is 4.85


def made(attack: str, defense: str, recall: float, loss: list[float] = LEARNED, **more: Any) -> list[Record]:
    """Three seeds, a point apart."""
    return [
        record(attack, defense, (recall + seed, recall + seed), seed=seed, loss=loss, recipe=BATCH, **more)
        for seed in (1, 2, 3)
    ]


def problems(*records: list[Record], kind: Any = "attack", spec: str = "mem3") -> list[str]:
    (block,) = blocks([one for several in records for one in several])
    return strength_problems(block, kind, spec, RULES)


CLEAN = made("clean", "none", 80)
NOISE = made("uniform-noise", "none", 75)


def test_an_attack_that_counts() -> None:
    assert problems(CLEAN, NOISE, made("mem3", "none", 5)) == []


def test_an_attack_no_stronger_than_noise() -> None:
    (line,) = problems(CLEAN, NOISE, made("mem3", "none", 75))
    assert line == "mem3 is not clearly stronger than uniform-noise of the same ε = 8/255, undefended"


def test_noise_of_another_eps_shows_nothing() -> None:
    (line,) = problems(CLEAN, made("uniform-noise", "none", 75, poison={"eps": 4}), made("mem3", "none", 5))
    assert line == "nothing shows that mem3 is stronger than uniform-noise of the same ε = 8/255"


def test_clean_victims_that_learn_nothing() -> None:
    chance = made("clean", "none", 0.4)
    assert any(
        "Near chance" in line
        for line in problems(chance, made("uniform-noise", "none", 0.4), made("mem3", "none", 0.1))
    )
    stuck = problems(made("clean", "none", 80, STUCK), NOISE, made("mem3", "none", 5))
    assert stuck == [
        "undefended clean victims do not learn; asked for is a clean victim's last loss at most 0.75 ln B, and at "
        "least 20 % of the recall kept"
    ]


@pytest.mark.parametrize(("kind", "spec"), [("defense", "mixup"), ("attack", "mem3")])
def test_a_defense_under_which_clean_victims_do_not_learn(kind: Kind, spec: str) -> None:
    """An attack's row would look stronger without the defense, so that it may not be left out of it."""
    cells = [CLEAN, NOISE, made("mem3", "none", 5), made("mem3", "mixup", 60)]
    assert problems(*cells, made("clean", "mixup", 70), kind=kind, spec=spec) == []
    (line,) = problems(*cells, made("clean", "mixup", 70, STUCK), kind=kind, spec=spec)
    assert line == (
        "clean victims under mixup do not learn; asked for is a clean victim's last loss at most 0.75 ln B, and at "
        "least 20 % of the recall kept"
    )


def test_a_defense_against_poisons_that_take_less_than_the_attacks_do() -> None:
    cells = [CLEAN, made("clean", "mixup", 70), made("mem3", "mixup", 60), made("em", "none", 50)]
    assert problems(*cells, made("mem3", "none", 10), kind="defense", spec="mixup") == []
    assert problems(*cells, made("mem3", "none", 16), kind="defense", spec="mixup") == [
        "mem3 takes 78 % of the recall undefended; asked for are 80 %"
    ]


def test_what_an_entry_says() -> None:
    records = [*CLEAN, *made("clean", "cutout", 70), *made("mem3", "none", 5), *made("mem3", "cutout", 9)]
    (block,) = blocks(records)
    entry = entry_of(ABOUT, block, "mem3", None, date(2026, 11, 27), rules=1, plugin="none")
    assert entry.recall == {"none": {"1": 6, "2": 7, "3": 8}, "cutout": {"1": 10, "2": 11, "3": 12}}
    assert entry.clean == {"1": 81, "2": 82, "3": 83}
    assert entry.seconds == {"craft": 300}
    assert entry.poison == {"eps": 8, "psnr": 33}
    assert (entry.test_images, entry.per_seed) == (1000, False)


def required(found: list[Record]) -> dict[RequiredCell, Record]:
    return {RequiredCell(one, None): one for one in found}  # type: ignore[arg-type]


def test_elsewhere_a_re_run_may_be_as_far_off_as_two_victims_of_a_cell() -> None:
    """Against pooled variances worked out by hand."""
    found = [*CLEAN, *made("mem3", "none", 5)]
    (low, high), recorded = allowed(found[3], found), 6.0
    scaled = [[math.asin(math.sqrt(percent / 100)) for percent in cell] for cell in ((81, 82, 83), (6, 7, 8))]
    squares = [sum((value - sum(cell) / 3) ** 2 for value in cell) for cell in scaled]
    margin = float(stats.t.ppf(0.995, 4)) * math.sqrt(sum(squares) / 4 * 2)
    middle = math.asin(math.sqrt(recorded / 100))
    assert low == pytest.approx(100 * math.sin(middle - margin) ** 2)
    assert high == pytest.approx(100 * math.sin(middle + margin) ** 2)


@pytest.mark.parametrize(("recall", "holds"), [(6.0, True), (7.0, True), (40.0, False)])
def test_a_re_run_on_another_machine(recall: float, holds: bool) -> None:
    found = required([*CLEAN, *made("mem3", "none", 5)])
    cell = list(found)[3]
    fresh = replace(record("mem3", "none", (recall, recall)), provenance={"device": "cuda"})
    finding, again = compare(cell, found[cell], fresh, found, 3, "given")
    assert finding.holds is holds
    assert again is not None
    assert not again.is_equal
    assert (again.found, again.recorded, again.draw) == (recall, 6.0, 3)
    # On the same machine nothing but the same digits will do.
    same = replace(fresh, provenance=found[cell].provenance)
    finding, _ = compare(cell, found[cell], same, found, 3, "given")
    assert finding.holds is False
    finding, again = compare(cell, found[cell], found[cell], found, 3, "given")
    assert finding.holds is True
    assert again is not None
    assert again.is_equal


def test_a_re_run_that_fails() -> None:
    found = required(CLEAN)
    cell = next(iter(found))
    fresh = record("clean", failed="out of memory")
    finding, again = compare(cell, found[cell], fresh, found, 3, "given")
    assert (finding.holds, again) == (False, None)
    assert finding.text == "re-run of clean × none, seed 1: failed: out of memory"


def test_machines_differ_in_device_threads_and_packages_but_not_in_what_decides_no_digit() -> None:
    def on(device: str, **versions: str) -> dict[str, object]:
        one = record("clean")
        return machine(replace(one, provenance={"device": device, "commit": device, "versions": versions}))

    same = {"torch": "2.13.0"}
    assert on("a", **same, python="3.11.1") == on("a", **same, python="3.11.2")
    assert on("a", **same) != on("b", **same)
    assert on("a", **same) != on("a", torch="2.13.1")
    one = record("clean")
    for number in ("threads", "processes"):
        few, many = (machine(replace(one, provenance={number: count, "versions": same})) for count in (1, 2))
        assert few != many


def test_a_budget_is_the_presets_in_an_attack_and_in_one_that_it_names() -> None:
    def said(spec: str, /, **params: Any) -> list[str]:
        one = record("mem3")
        chosen = replace(one.attack, spec=spec, params=params)
        return budget_problems([replace(one, attack=chosen)], RULES)

    assert said("mem3", rounds=5, eps=8) == []
    assert said("mem3[rounds=50]", rounds=50) == ["mem3: rounds is 50; preset tiny gives every attack 5"]
    assert said("em", rounds=80) == []
    inner = "em[rounds=800,surrogate_steps=31]"
    assert said("em-wordwise", steps=93, restarts=8, pattern_lr=0.1) == []
    assert said("em-keyed", steps=930) == ["em-keyed: steps is 930; preset tiny gives every attack 93"]
    assert said("through", attack=inner) == ["em: rounds is 800; preset tiny gives every attack 80"]
    assert said("rem", attack=inner) == ["em: rounds is 800; preset tiny gives every attack 8"]
    assert said("through", attack="mem3", defense="adv-training[eps=4,step_size=1]") == []
    official = said("through", attack="mem-official[eps=8]", defense="jpeg")
    assert "mem-official: rounds is 20; preset tiny gives every attack 5" in official
    assert said("through", attack="a-strangers[rounds=9]") == [
        "a-strangers: rounds is 9; preset tiny gives every attack 5"
    ]
    deep = "through[attack=" * 1_000 + "em[rounds=800]" + "]" * 1_000  # which nobody can run
    assert said("through", attack=deep) == []


def test_attacks_as_the_preset_gives_them_keep_within_its_budgets() -> None:
    preset = PRESETS[RULES.preset]
    for name in {entry.name for entry in ATTACKS.entries()} - {"em-official", "mem-official", "through", "poison"}:
        (chosen,) = (one for one in choose_attacks(name, preset) if one.is_clean == (name == "clean"))
        one = replace(record("mem3"), attack=chosen.choice)
        assert budget_problems([one], RULES) == [], name


@pytest.mark.parametrize(
    ("seeds", "accepted"), [((1, 2, 3), True), ((4, 5, 6), False), ((1, 2, 4), False), ((1, 2), False)]
)
def test_nobody_chooses_the_seeds(seeds: tuple[int, ...], accepted: bool) -> None:
    assert (seed_problems([record("mem3", seed=seed) for seed in seeds], RULES) == []) is accepted


def test_many_seeds_are_named_one_by_one() -> None:
    records = [record("mem3", seed=seed) for seed in range(1, 16)]
    odd = [one for one in records if one.seed % 2]
    assert seed_problems(odd, RULES)[0].startswith("the seeds are 1, 3, 5, 7, 9, 11, 13, 15; they have to be 1 to n")
    assert match(list(required(records)), odd)[1][-1] == "missing: mem3 × none, seeds 2, 4, 6, 8, 10, 12, 14"


def test_scores_of_an_epoch_before_the_last_are_told() -> None:
    one = record("mem3", loss=[1.0] * 14)
    cells = list(required([one]))
    assert match(cells, [one])[1] == []
    (line,) = match(cells, [replace(one, epochs=(replace(one.last, epoch=13),))])[1]
    assert line.endswith("it ends after epoch 13 with 14 losses; the recipe has 14 epochs")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cells_are_compared_in_the_precision_of_the_records(precision: str, tmp_path: Path) -> None:
    own = Submission(ABOUT, [record("mem3", recipe={"precision": precision})], [], None, [])
    assert _settings(own, False, RULES, Options(tmp_path, tmp_path), tmp_path).precision == precision

"""A cell's address and its poison's name all that decides the result, and a poison's nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attacks.mem import Mem
from benchmark.core.errors import UsageError
from benchmark.figures.sources import _cell
from benchmark.grid.cells import Cell
from benchmark.grid.choices import (
    choose_attacks,
    choose_dataset,
    choose_defenses,
    choose_surrogates,
    choose_victims,
    partly_protected,
)
from benchmark.grid.poison_store import PoisonStore
from benchmark.grid.presets import PRESETS
from benchmark.grid.records import load_records
from defenses.cutout import Cutout
from defenses.jpeg import Jpeg
from victims.architecture import Architecture
from victims.recipe import Recipe

TINY, RN50 = Architecture("tiny"), Architecture("RN50")


def cell(attack: str = "mem3", defense: str = "cutout", **changes: Any) -> Cell:
    preset = PRESETS["tiny"]
    settings = {"victim": TINY, "surrogate": TINY, "recipe": Recipe(precision="fp32"), "seed": 1, **changes}
    chosen = choose_attacks(attack, preset)[-1], choose_defenses(defense, preset)[-1]
    return Cell(choose_dataset("scenes"), *chosen, **settings)


@pytest.mark.parametrize(
    ("other", "has_another_poison"),
    [
        (cell(attack="mem5"), True),
        (cell(attack="mem3[eps=4]"), True),
        (cell(attack="trigger-only"), True),
        (cell(surrogate=RN50), True),
        (cell(recipe=Recipe(precision="bf16")), True),
        (cell(seed=2), True),
        (cell(plain_models=True), True),
        (cell(victim=RN50), False),
        (cell(victim=Architecture("tiny", repeat=2)), False),
        (cell(defense="cutout[size=0.3]"), False),
        (cell(recipe=Recipe(precision="fp32", lr=1e-3)), False),
    ],
    ids=[
        *("attack", "strength", "half", "surrogate", "precision", "seed", "plain models"),
        *("victim", "repeat", "defense", "recipe"),
    ],
)
def test_what_decides_the_result_is_in_the_address(other: Cell, has_another_poison: bool) -> None:
    data = ["train", "val", "test"]
    assert other.key(data) != cell().key(data)
    assert (other.poison_identity() != cell().poison_identity()) == has_another_poison


def test_the_data_are_in_the_address() -> None:
    keys = {cell().key(data) for data in (["a", "b", "c"], ["x", "b", "c"], ["a", "x", "c"], ["a", "b", "x"])}
    assert len(keys) == 4


def test_the_order_of_composed_defenses_is_in_the_address() -> None:
    data = ["train", "val", "test"]
    assert cell(defense="cutout+random-noise").key(data) != cell(defense="random-noise+cutout").key(data)


def test_a_new_version_of_a_defense_is_in_the_addresses_of_its_cells_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ["train", "val", "test"]
    cells = [cell(defense=name) for name in ("cutout", "mixup", "mixup+cutout", "none")]
    before = [(one.key(data), one.code()) for one in cells]
    monkeypatch.setattr(Cutout, "version", Cutout.version + 1)
    after = [(one.key(data), one.code()) for one in cells]
    assert [old[0] != new[0] for old, new in zip(before, after, strict=True)] == [True, False, True, False]
    assert [old[1] != new[1] for old, new in zip(before, after, strict=True)] == [True, False, True, False]


def test_a_poison_that_is_crafted_through_a_defense_knows_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """And that of the attack inside, where it is a plugin's."""
    attacks = ["mem3", "through[attack=mem3,defense=jpeg]", "em-wordwise[through=jpeg]"]
    attacks += ["through[attack=em-wordwise[through=jpeg],defense=crop-flip]", "em-wordwise"]
    attacks += ["through[attack=em,defense=crop-flip,trained_through=jpeg]"]
    cells = [cell(attack=name, defense="none") for name in attacks]

    def seen() -> list[tuple[Any, str]]:
        return [(one.poison_identity(), one.code()["attack"]) for one in cells]

    before = seen()
    monkeypatch.setattr(Jpeg, "version", Jpeg.version + 1)
    newer = seen()
    for part in (0, 1):
        changed = [old[part] != new[part] for old, new in zip(before, newer, strict=True)]
        assert changed == [False, True, True, True, False, True]
    monkeypatch.setattr("benchmark.grid.cells.source_of", lambda factory: "its file" if factory is Mem else None)
    changed = [old != new for old, new in zip(newer, seen(), strict=True)]
    assert changed == [True, True, False, False, False, True]


def test_a_label_of_any_length_makes_a_file_name(tmp_path: Path) -> None:
    named = cell()
    longer = replace(named.attack, choice=replace(named.attack.choice, label="ä" * 500))
    file = PoisonStore(tmp_path, 0).path(replace(named, attack=longer), "data")
    assert 40 < len(file.name.encode()) < 150


def test_clean_data_are_the_same_from_every_surrogate_and_seed() -> None:
    clean = cell(attack="clean")
    for other in (replace(clean, surrogate=RN50), replace(clean, seed=2), replace(clean, plain_models=True)):
        assert other.poison_identity() == clean.poison_identity()
    for other in (replace(clean, seed=2), replace(clean, plain_models=True)):
        assert other.key(["t", "v", "e"]) != clean.key(["t", "v", "e"])


def test_the_reference_records_are_still_found_by_their_addresses() -> None:
    records = load_records(Path(__file__).parents[2] / "results" / "reference" / "micro" / "records")
    assert len(records) > 40
    for record in records:
        splits = record.provenance["fingerprints"]
        data = [record.dataset.params["fingerprint"], splits["val"], splits["test"]]
        cell = replace(_cell(record), recipe=Recipe(**record.recipe))
        assert cell.key(data) == record.key
        plain = _cell(replace(record, provenance={**record.provenance, "models": "plain"}))
        assert replace(plain, recipe=cell.recipe).key(data) == replace(cell, plain_models=True).key(data) != record.key


def test_shares_of_protected_images_are_defenses_with_the_rest_clean() -> None:
    assert partly_protected(None) == []
    assert partly_protected("0.2, 0.5,1") == ["clean-fraction[share=0.8]", "clean-fraction[share=0.5]"]
    assert partly_protected("0.7,0.000001") == ["clean-fraction[share=0.3]", "clean-fraction[share=0.999999]"]
    assert partly_protected("0.9999999") == []


@pytest.mark.parametrize("text", ["0", "1e-9", "1.1", "-0.5", "half", "nan", "0.5,", ""])
def test_other_shares_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--protected takes shares from 0\.000001 to 1"):
        partly_protected(text)


def test_poisons_of_other_data_lie_in_files_of_their_own(tmp_path: Path) -> None:
    store = PoisonStore(tmp_path)
    assert store.path(cell(), "a") != store.path(cell(), "b")


def test_the_surrogate_of_a_repeated_victim_is_its_first_repeat() -> None:
    """Else repeats, which are to show how much victims of one poison differ, would each have their own."""
    victims = choose_victims("RN50[repeat=2],RN50[repeat=3]")  # at another resolution than the preset's surrogate
    assert {str(one) for one in choose_surrogates(victims, None, PRESETS["tiny"]).values()} == {"RN50"}

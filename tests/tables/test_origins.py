"""Records of other machines, commits or versions are not averaged without a word."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record, load_records
from benchmark.tables.defenses import table2
from benchmark.tables.make import make_tables
from benchmark.tables.origins import mixed_origins, mixed_poisons
from benchmark.tables.table import Caution
from tests.tables.factory import record

ONE, TWO = "cpu (EPYC, 1 thread)", "cpu (EPYC, 2 threads)"


def made(one: Record, device: str = ONE, commit: str = "a" * 40, **more: Any) -> Record:
    return replace(one, provenance={"device": device, "commit": commit, "processes": 1, "threads": 1, **more})


def grid(seeds: int = 3) -> list[Record]:
    cells = (("clean", "none"), ("mem3", "none"), ("mem3", "cutout"))
    return [made(record(*cell, seed=seed)) for seed in range(1, seeds + 1) for cell in cells]


def on(records: list[Record], chosen: dict[str, Any], **provenance: Any) -> list[Record]:
    """The records, those that are as ``chosen`` made otherwise."""

    def matches(one: Record) -> bool:
        known = {"seed": one.seed, "attack": one.attack.spec, "defense": one.defense.spec}
        return chosen.items() <= known.items()

    return [made(one, **provenance) if matches(one) else one for one in records]


def test_one_origin_needs_no_note() -> None:
    assert mixed_origins(grid()) == []
    # Records from before something was recorded do not differ in it.
    assert mixed_origins(on(grid(), {"seed": 2}, versions={"wn": "1"})) == []
    assert mixed_origins([]) == []


def test_seeds_of_another_machine_are_named() -> None:
    (note,) = mixed_origins(on(grid(), {"seed": 3}, device=TWO))
    assert note == (
        "Mixed origins: seed 3: cpu (EPYC, 2 threads); seeds 1–2: cpu (EPYC, 1 thread). "
        "Averaged over several: Clean, MEM-3, MEM-3 × Cutout."
    )


def test_many_seeds_of_another_machine_are_named_one_by_one() -> None:
    records = [record(attack, seed=seed) for attack in ("clean", "mem3") for seed in range(1, 40)]
    odd = [replace(one, provenance={**one.provenance, "device": TWO}) if one.seed % 2 else one for one in records]
    (note,) = mixed_origins(odd)
    assert "seeds 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, " in note


def test_a_row_of_another_commit_is_named_and_averages_nothing() -> None:
    (note,) = mixed_origins(on(grid(), {"defense": "cutout"}, commit="b" * 40 + "-dirty"))
    assert note == "Mixed origins: MEM-3 × Cutout: commit bbbbbbbbb-dirty; the others: commit aaaaaaaaa."


def test_runs_of_other_versions_are_named_one_by_one() -> None:
    plain = [replace(one, provenance={**one.provenance, "versions": {"torch": "2.1", "numpy": "2"}}) for one in grid()]
    versions = {"torch": "2.2", "numpy": "2"}
    (note,) = mixed_origins(on(plain, {"seed": 2, "attack": "mem3", "defense": "none"}, versions=versions))
    assert note == ("Mixed origins: MEM-3 (seed 2): torch 2.2; the others: torch 2.1. Averaged over several: MEM-3.")


@pytest.mark.parametrize(
    ("other", "said"),
    [({"processes": 2}, "processes 2"), ({"device": "H100"}, "H100"), ({"threads": 8}, "threads 8")],
)
def test_every_fact_counts(other: dict[str, Any], said: str) -> None:
    gpu = {"device": "H200"}
    (note,) = mixed_origins(on(on(grid(), {}, **gpu), {"seed": 1}, **{**gpu, **other}))
    assert note.startswith(f"Mixed origins: seed 1: {said}; seeds 2–3: ")


def test_victims_of_one_attack_are_told_apart() -> None:
    (note,) = mixed_origins([made(record(victim="tiny")), made(record(victim="RN50"), TWO)])
    assert note == f"Mixed origins: MEM-3 × RN50: {TWO}; the others: {ONE}."


@pytest.mark.parametrize("name", ["1", "2", "attacks", "matrix", "cost"])
def test_every_table_says_so_even_on_a_terminal_without_notes(name: str) -> None:
    records = on(grid(), {"seed": 3}, device=TWO)
    (note,) = (note for note in make_tables(name, records)[0].notes if note.startswith("Mixed origins: seed 3"))
    assert isinstance(note, Caution)
    assert not any("Mixed" in note for note in make_tables(name, grid())[0].notes)


def test_an_attack_that_was_crafted_twice_for_a_seed_is_named() -> None:
    def with_losses(one: Record) -> Record:
        twice = one.seed == 2 and one.defense.spec == "cutout"
        return replace(one, poison={**one.poison, "loss_per_round": [1.0, 0.5 + twice / 8]})

    poisoned = [with_losses(one) if one.attack.spec == "mem3" else one for one in grid()]
    assert mixed_poisons(grid()) == []
    assert mixed_poisons(poisoned) == [
        "Crafted more than once: MEM-3, seed 2. Victims in these rows differ in their poison as well."
    ]
    assert mixed_poisons([one for one in poisoned if one.defense.spec == "cutout"]) == []
    spoken = [
        replace(one, poison={**one.poison, "trigger_words": {"cat" if one.defense.spec == "cutout" else "dog": 9}})
        for one in grid(1)
        if one.attack.spec == "mem3"
    ]
    assert mixed_poisons(spoken)[0].startswith("Crafted more than once: MEM-3, seed 1.")


def test_a_number_that_was_rounded_twice_makes_no_second_poison() -> None:
    # 30.097105446 in seven digits, and in eight digits first.
    psnrs = {"none": 30.09711, "cutout": 30.0971}
    poisoned = [
        replace(one, poison={**one.poison, "psnr": psnrs.get(one.defense.spec, 30.09711)})
        for one in grid()
        if one.attack.spec == "mem3"
    ]
    assert {one.poison["psnr"] for one in poisoned} == {30.09711, 30.0971}
    assert mixed_poisons(poisoned) == []


def test_records_of_failed_runs_are_of_no_origin() -> None:
    failed = replace(made(record("mem3", "cutout", failed="boom"), TWO))
    assert not any("Mixed" in note for note in table2([*grid(1)[:2], failed])[0].notes)


def test_two_records_of_one_cell_with_other_scores_are_refused(tmp_path: Path) -> None:
    one = made(record("mem3", "prefix-drop", recalls=(50, 50), key="k" * 40))
    spelled = replace(one, defense=replace(one.defense, spec="prefix-drop[n=3]"))
    one.save(tmp_path)
    spelled.save(tmp_path)
    assert len(load_records(tmp_path)) == 2  # one cell under two spellings
    elsewhere = record("mem3", "prefix-drop[n=3]", recalls=(50, 51), key="k" * 40)
    replace(spelled, epochs=elsewhere.epochs, provenance={"device": TWO}).save(tmp_path)
    with pytest.raises(UsageError, match="two records of one cell with different scores") as caught:
        load_records(tmp_path)
    assert ONE in str(caught.value)
    assert TWO in str(caught.value)
    replace(spelled, status="failed", epochs=(), error={"message": "boom"}).save(tmp_path)
    assert len(load_records(tmp_path)) == 2


def test_records_of_one_cell_from_two_folders_are_refused_with_their_origins() -> None:
    with pytest.raises(
        UsageError, match=r"two records of one cell: .*1 thread\), a+\) and .*2 threads\), a+\); keep one"
    ):
        table2([*grid(1), made(record("mem3", recalls=(1, 1)), TWO)])

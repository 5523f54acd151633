"""Runs beside their clean victims, from records made by hand."""

import pytest

from benchmark.tables.iqm import Run
from benchmark.tables.shares import paired_runs
from benchmark.tables.table import EpochChoice
from tests.tables.factory import SCENES, record


@pytest.mark.parametrize(("at", "recall", "clean"), [("last", 10, 80), ("clean val", 30, 40), ("protected", 30, 40)])
def test_a_victim_and_its_clean_victim_are_taken_at_the_same_choice_of_epoch(
    at: EpochChoice, recall: float, clean: float
) -> None:
    attacked = record("mem3", recalls=(8, 12), best=(28, 32), protected=(90, 70))
    full = record("clean", recalls=(78, 82), best=(38, 42), protected=(90, 70))
    assert paired_runs([attacked], [full], at) == {1: Run(recall, clean, 1000)}


@pytest.mark.parametrize(("facts", "sets"), [({}, [0, 0]), ({"per_seed": True}, [3, 4])])
def test_seeds_with_data_of_their_own_have_test_sets_of_their_own(facts: dict[str, bool], sets: list[int]) -> None:
    attacked, full = (
        [record(attack, seed=seed, facts={**SCENES, **facts}) for seed in (3, 4)] for attack in ("mem3", "clean")
    )
    assert [run.test_set for run in paired_runs(attacked, full).values()] == sets

"""Table 2 against hand-worked numbers."""

import dataclasses
import math
import re
from statistics import fmean, stdev
from typing import Any

import pandas as pd
import pytest

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record
from benchmark.tables.defenses import table2
from benchmark.tables.render import render
from benchmark.tables.shares import lost
from benchmark.tables.table import Observation, summarise
from tests.tables.factory import SCENES, cell, record, scores

FOUR = ["R@10 I→T", "Medr I→T", "R@10 T→I", "Medr T→I"]


def basic() -> list[Record]:
    return [
        record("clean", recalls=(56.0, 50.0), ranks=(8, 10)),
        record("mem3", recalls=(10.0, 8.0), ranks=(150, 200)),
        record("mem3", "cutout", recalls=(12.0, 7.0), ranks=(140, 210)),
        record("mem3", "prefix-drop", recalls=(52.0, 48.0), ranks=(10, 11)),
    ]


def test_each_score_lands_in_its_own_cell() -> None:
    (table,) = table2(basic())
    assert table.rows == ("Clean", "MEM-3", "Cutout", "Prefix drop")
    assert [cell(table, "Cutout", column)["mean"] for column in FOUR] == [12.0, 140, 7.0, 210]
    assert [cell(table, "Clean", column)["mean"] for column in FOUR] == [56.0, 8, 50.0, 10]
    assert table.cells["std"].isna().all()
    assert table.seeds == {}


def test_the_last_epoch_and_the_best_on_val_are_told_apart() -> None:
    (table,) = table2([record("mem3", recalls=(4.5, 3.5), best=(10.1, 9.1))])
    assert cell(table, "MEM-3", "R@10 I→T")["mean"] == 4.5
    assert cell(table, "MEM-3", "best: clean val")["mean"] == pytest.approx((10.1 + 9.1) / 2)


def test_the_test_split_does_not_choose_the_best_epoch() -> None:
    """Val prefers an epoch that is the worse on test; of two that val likes equally, the earlier one counts."""
    (table,) = table2([record("mem3", recalls=(10.1, 9.1), best=(4.5, 3.5))])
    assert cell(table, "MEM-3", "best: clean val")["mean"] == 4
    tied = dataclasses.replace(
        record("mem3"),
        epochs=tuple(scores(n, (float(n), float(n)), (90.0, 90.0), val=60) for n in (2, 4, 6)),
    )
    (table,) = table2([tied])
    assert cell(table, "MEM-3", "best: clean val")["mean"] == 2


@pytest.mark.parametrize(
    ("protected", "chosen"),
    [((70, 60), 10), ((60, 70), 4), ((70, 70), 4)],
    ids=["an early epoch", "the last", "the later of equals"],
)
def test_protected_data_choose_an_epoch_of_their_own(protected: tuple[float, float], chosen: float) -> None:
    """Val prefers the early epoch, whatever the victim scores on its own training data."""
    (table,) = table2([record("mem3", recalls=(4.5, 3.5), best=(10.5, 9.5), protected=protected)])
    assert cell(table, "MEM-3", "best: clean val")["mean"] == 10
    assert cell(table, "MEM-3", "best: protected")["mean"] == chosen
    assert "not held out" in next(note for note in table.notes if note.startswith("best: protected: "))


def test_records_without_scores_on_protected_data_have_no_such_column() -> None:
    old = record("mem3", recalls=(4.5, 3.5), best=(10.5, 9.5))
    (table,) = table2([old])
    assert "best: protected" not in table.columns
    assert not any(note.startswith("best: protected") for note in table.notes)
    # Where one epoch alone was evaluated, there is no choice to make.
    (table,) = table2([record("mem3", recalls=(4.5, 3.5))])
    assert not [text for text in (*table.columns, *table.notes) if text.startswith("best: ")]
    # An epoch without a score might have been the best.
    half = dataclasses.replace(old, epochs=(old.epochs[0], scores(14, (4, 4), (1, 1), val=50, protected=60)))
    assert half.best_on_protected is None


def test_mean_and_sample_standard_deviation_over_seeds() -> None:
    recalls = {1: (10.0, 8.0), 2: (11.0, 8.0), 3: (15.0, 8.0)}
    (table,) = table2(record("mem3", recalls=value, seed=seed) for seed, value in recalls.items())
    found = cell(table, "MEM-3", "R@10 I→T")
    # Deviations from 12 are -2, -1 and 3: variance 14 / 2.
    assert (found["mean"], found["std"], found["n"]) == (pytest.approx(12), pytest.approx(7**0.5), 3)
    assert cell(table, "MEM-3", "R@10 T→I")["std"] == 0


def test_recovered_is_the_share_of_what_was_lost() -> None:
    (table,) = table2(basic())
    # Means of both directions: clean 53, attack 9, cutout 9.5, prefix-drop 50.
    assert cell(table, "Cutout", "recovered %")["mean"] == pytest.approx(100 * 0.5 / 44)
    assert cell(table, "Prefix drop", "recovered %")["mean"] == pytest.approx(100 * 41 / 44)
    assert cell(table, "MEM-3", "recovered %")["mean"] == 0
    assert cell(table, "Clean", "recovered %")["mean"] == 100


def test_recovered_is_paired_by_seed() -> None:
    clean = {1: 50.0, 2: 60.0}
    attacked = {1: 10.0, 2: 40.0}
    defended = {1: 30.0, 2: 45.0, 3: 99.0}
    records = [record("clean", recalls=(r, r), seed=seed) for seed, r in clean.items()]
    records += [record("mem3", recalls=(r, r), seed=seed) for seed, r in attacked.items()]
    records += [record("mem3", "cutout", recalls=(r, r), seed=seed) for seed, r in defended.items()]
    (table,) = table2(records)
    found = cell(table, "Cutout", "recovered %")
    # 25 of the 60 that both seeds lose, with residuals 20 - 40 · 5/12 and 5 - 20 · 5/12 over the 30 they lose in the
    # mean: ±1/9. Seed 3 has nothing to be paired with.
    assert (found["mean"], found["n"]) == (pytest.approx(100 * 25 / 60), 2)
    assert found["std"] == pytest.approx(100 / 9 * 2**0.5)
    assert cell(table, "Clean", "recovered %")["std"] == pytest.approx(0)
    assert table.seeds == {"Clean": "1–2", "MEM-3": "1–2", "Cutout": "1–3"}


def test_a_seed_that_loses_next_to_nothing_does_not_decide_what_is_recovered() -> None:
    records = [record("clean", recalls=(50, 50), seed=seed) for seed in (1, 2)]
    records += [record("mem3", recalls=(r, r), seed=seed) for seed, r in ((1, 10.0), (2, 49.9))]
    records += [record("mem3", "cutout", recalls=(45, 45), seed=seed) for seed in (1, 2)]
    # 35 and -4.9 of 20.05, not the mean of 87 % and -4900 %.
    assert cell(table2(records)[0], "Cutout", "recovered %")["mean"] == pytest.approx(15.05 / 20.05 * 100)


def test_nothing_is_recovered_of_a_seed_that_alone_loses_next_to_nothing() -> None:
    """The attack takes half of the recall over three seeds; the defense ran on the one where it takes nothing."""
    attacked = {1: 89.9, 2: 20.0, 3: 20.0}
    records = [record("clean", recalls=(90, 90), seed=seed) for seed in attacked]
    records += [record("mem3", recalls=(r, r), seed=seed) for seed, r in attacked.items()]
    defended = [record("mem3", "cutout", recalls=(88, 88), seed=seed) for seed in attacked]
    table = table2([*records, defended[0]])[0]
    assert math.isnan(cell(table, "Cutout", "recovered %")["mean"])
    # -1.9, 68 and 68 of 140.1.
    found = cell(table2([*records, *defended])[0], "Cutout", "recovered %")
    assert found["mean"] == pytest.approx(100 * 134.1 / 140.1)


def test_nothing_is_recovered_where_no_recall_is_lost_in_the_mean() -> None:
    """One seed loses all of little recall, another gains as much."""
    records = [record("clean", recalls=(r, r), seed=seed) for seed, r in ((1, 10), (2, 90))]
    records += [record("mem3", recalls=(r, r), seed=seed) for seed, r in ((1, 0), (2, 100))]
    records += [record("mem3", "cutout", recalls=(50, 50), seed=seed) for seed in (1, 2)]
    assert math.isnan(cell(table2(records)[0], "Cutout", "recovered %")["mean"])


def test_rows_of_other_seeds_are_told_though_they_have_as_many() -> None:
    records = [record("clean", seed=seed) for seed in (1, 2)]
    records += [record("mem3", seed=seed) for seed in (2, 3)]
    records += [record("mem3", "cutout", seed=1), record("mem3", "cutout", seed=2), record("clean", "cutout", seed=4)]
    (table,) = table2(records)
    assert table.seeds == {"Clean": "1–2", "MEM-3": "2–3", "Cutout": "1–2"}
    assert "clean, clean %: of seed 4 under Cutout." in table.notes
    failed = [record("mem3", "cutout"), record("mem3"), record("mem3", seed=2, failed="boom")]
    assert "One seed: 1." in table2(failed)[0].notes


def test_an_attack_of_a_defenses_name_keeps_its_own_row() -> None:
    theirs = dataclasses.replace(record("em").attack, spec="theirs", label="Cutout")
    named = dataclasses.replace(record("em"), attack=theirs)
    defended = dataclasses.replace(record("em", "cutout", recalls=(30, 30)), attack=theirs)
    (table,) = table2([record("clean"), named, defended])
    assert table.rows == ("Clean", "Cutout (theirs)", "Cutout")
    assert cell(table, "Cutout", "R@10 I→T")["mean"] == 30
    twins = dataclasses.replace(theirs, spec="cutout")  # even the spec is the same
    (table,) = table2([dataclasses.replace(one, attack=twins) for one in (named, defended)])
    assert table.rows == ("Clean", "Cutout (attack cutout)", "Cutout (cutout)")
    assert "| Cutout (attack cutout) |" in render([table], "markdown")
    no_clean = dataclasses.replace(theirs, spec="cle-an", label="Clean")
    (table,) = table2([record("clean"), *(dataclasses.replace(one, attack=no_clean) for one in (named, defended))])
    assert table.rows == ("Clean (attack clean)", "Clean (attack cle-an)", "Cutout")


def test_what_the_paper_has_and_we_have_not_run_is_told() -> None:
    (table,) = table2(basic())
    (line,) = (note for note in table.notes if note.startswith("Not run: "))
    assert line.startswith("Not run: Adv training, Random noise, Mixup, Random insertion")
    (beside,) = table2(basic(), beside_paper=True)
    assert beside.rows[:4] == ("Clean", "MEM-3", "Adv training", "Random noise")
    assert cell(beside, "Adv training", "R@10 I→T")["paper"] == 36.6
    assert pd.isna(cell(beside, "Adv training", "R@10 I→T")["mean"])


def test_a_victim_that_met_no_defense_has_no_table_beside_one_that_did() -> None:
    other = dataclasses.replace(record("mem3"), victim=dataclasses.replace(record("mem3").victim, spec="RN101"))
    assert [table.keys["victim"] for table in table2([*basic(), other])] == ["tiny"]


def test_without_a_defense_nothing_is_said_of_the_best_one() -> None:
    (table,) = table2([record("clean", recalls=(50, 48)), record("mem3")])
    assert "After the last epoch." in table.notes


def test_defenses_that_ran_only_together_have_not_run_alone() -> None:
    (table,) = table2([record("mem3"), record("mem3", "cutout+random-swap"), record("mem3", "mixup")])
    (line,) = (note for note in table.notes if note.startswith("Not run: "))
    assert "Cutout" in line
    assert "Random swap" in line
    assert "Mixup" not in line


def test_clean_victims_under_defenses_are_shown_before_an_attack_has_met_one() -> None:
    tables = table2(
        [record("clean"), record("clean", "cutout", strength="a square", changes={"pixel": 20.0}), record("mem3")]
    )
    assert [table.rows for table in tables] == [("Clean", "Cutout"), ("Clean", "MEM-3")]
    assert "Cutout: a square; changed 20.0/255 per pixel value on average." in tables[0].notes
    assert tables[0].notes[0] == "After the last epoch."
    tables = table2([record("clean"), record("clean", "cutout"), record("mem3"), record("mem3", "mixup")])
    assert [table.rows for table in tables] == [("Clean", "MEM-3", "Mixup")]


def test_kept_is_paired_by_seed() -> None:
    clean = {1: 50.0, 2: 80.0}
    records = [record("clean", recalls=(r, r), seed=seed) for seed, r in clean.items()]
    records += [record("mem3"), record("mem3", "cutout"), record("clean", "cutout", recalls=(30, 30), seed=1)]
    (table,) = table2(records)
    # 30 of seed 1's own 50; of the mean of both seeds it would be 30 of 65.
    found = cell(table, "Cutout", "kept %")
    assert (found["mean"], found["n"]) == (pytest.approx(60), 1)
    assert set(table.cells["row"][table.cells["column"] == "kept %"]) == {"Cutout"}  # none is clean data's cost alone
    assert "kept %" not in table2([record("clean"), record("mem3")])[0].columns


def test_recovered_is_negative_below_the_attack_and_absent_without_a_loss() -> None:
    worse = [record("clean", recalls=(50, 50)), record(recalls=(10, 10)), record("mem3", "cutout", recalls=(8, 8))]
    assert cell(table2(worse)[0], "Cutout", "recovered %")["mean"] == pytest.approx(-5)
    harmless = [record("clean", recalls=(50, 50)), record(recalls=(50, 50)), record("mem3", "cutout", recalls=(60, 60))]
    assert "recovered %" not in table2(harmless)[0].columns
    assert "recovered %" not in table2(harmless[1:])[0].columns


def test_on_a_victim_near_chance_nothing_is_ranked() -> None:
    facts = {**SCENES, "test_images": 20, "test_captions": 100}  # where chance is 41.6 and 50.0
    names = (("clean", "none", 42.0), ("mem3", "none", 30.0), ("mem3", "cutout", 52.0))
    (table,) = table2([record(attack, defense, recalls=(r, r), facts=facts) for attack, defense, r in names])
    assert not table.cells["best"].any()
    (line,) = (note for note in table.notes if note.startswith("Near chance: "))
    assert "victim tiny has learned next to nothing even from clean data (R@10 42.0 I→T, 42.0 T→I; chance 41.6" in line
    (table,) = table2([record(attack, defense, recalls=(r, r)) for attack, defense, r in names])
    assert table.cells["best"].any()
    assert not any(note.startswith("Near chance") for note in table.notes)


def test_what_takes_next_to_nothing_and_what_brings_nothing_back_is_not_best() -> None:
    clean = record("clean", recalls=(50, 50))
    harmless = [clean, record("em", recalls=(49, 49)), record("em", "cutout", recalls=(60, 60))]
    (table,) = table2(harmless)
    assert "recovered %" not in table.columns
    assert not table.cells["best"].any()
    assert "recov. is left out and nothing is bold, as EM takes less than 20 % of the clean recall." in table.notes
    (table,) = table2([clean, *harmless[2:], record("em", "mixup", recalls=(70, 70))])
    assert not table.cells["best"].any()
    assert "recov. is left out and nothing is bold, as no undefended victim of EM is done." in table.notes
    for unpaired in (harmless[1:], [record("clean", seed=2), *harmless[1:]]):  # no clean victim, or of another seed
        (table,) = table2(unpaired)
        assert table.cells["best"].any()
        why = "no seed has both an undefended victim of EM and a clean one"
        assert f"recov. is left out, as {why}." in table.notes
    worse = [clean, record("mem3", recalls=(10, 10)), record("mem3", "mixup", recalls=(8, 8))]
    (table,) = table2(worse)
    assert cell(table, "Mixup", "recovered %")["mean"] < 0
    assert not cell(table, "Mixup", "recovered %")["best"]


def test_the_best_is_the_highest_recall_and_the_lowest_rank_among_defenses_alone() -> None:
    records = [*basic(), record("mem3", "mixup", recalls=(52.0, 9.0), ranks=(12, 230))]
    (table,) = table2(records)
    best = table.cells[table.cells["best"]]
    assert set(zip(best["row"], best["column"], strict=True)) == {
        ("Prefix drop", "R@10 I→T"), ("Mixup", "R@10 I→T"),
        ("Prefix drop", "R@10 T→I"),
        ("Prefix drop", "R@1 I→T"), ("Mixup", "R@1 I→T"), ("Prefix drop", "R@1 T→I"),
        ("Prefix drop", "best: clean val"), ("Prefix drop", "best: protected"),
        ("Prefix drop", "Medr I→T"), ("Prefix drop", "Medr T→I"), ("Prefix drop", "recovered %"),
    }  # fmt: skip


def test_clean_victims_under_defenses_get_columns_of_their_own() -> None:
    (table,) = table2([*basic(), record("clean", "cutout", recalls=(49.0, 44.0))])
    assert cell(table, "Cutout", "clean R@10 I→T")["mean"] == 49.0
    assert cell(table, "Cutout", "clean R@10 T→I")["mean"] == 44.0
    assert cell(table, "Cutout", "R@10 I→T")["mean"] == 12.0
    assert table.cells[(table.cells["row"] == "Prefix drop") & table.cells["column"].str.startswith("clean")].empty
    assert not any(column.startswith("clean") for column in table2(basic())[0].columns)


def test_a_failed_cell_is_failed_and_counts_for_nothing() -> None:
    records = [*basic()[:2], record("mem3", "cutout", failed="out of memory\nat step 3")]
    (table,) = table2(records)
    found = cell(table, "Cutout", "R@10 I→T")
    assert pd.isna(found["mean"])
    assert found["failed"]
    assert found["n"] == 0
    assert "Failed: MEM-3 × Cutout, seed 1: out of memory at step 3." in table.notes
    later = [record("mem3", "cutout", seed=seed, failed="killed") for seed in (10, 2)]
    failed = [note for note in table2([*later, *records])[0].notes if note.startswith("Failed")]
    assert [re.findall(r"seed (\d+)", note) for note in failed] == [["1"], ["2"], ["10"]]
    (table,) = table2([*records, record("mem3", "cutout", recalls=(12, 7), seed=2)])
    assert cell(table, "Cutout", "R@10 I→T")["mean"] == 12
    assert cell(table, "Cutout", "R@10 I→T")["n"] == 1
    assert cell(table, "Cutout", "R@10 I→T")["failed"]


def test_the_papers_defenses_come_first_then_others_by_name_then_combinations() -> None:
    names = [
        "zeta",
        "cutout+random-swap",
        "prefix-drop",
        "alpha",
        "adv-training",
        "cutout[size=0.3]",
        "cutout",
        "mixup",
    ]
    (table,) = table2([record("mem3", name) for name in names])
    assert [*table.rows][2:] == [
        "Adv training", "Mixup", "Cutout", "cutout[size=0.3]", "Alpha", "Prefix drop", "Zeta", "Cutout + Random swap",
    ]  # fmt: skip


def test_one_table_for_every_data_set_victim_and_attack() -> None:
    cells = [
        ("scenes", "tiny", "clean"),
        ("scenes", "tiny", "mem3"),
        ("scenes", "tiny", "em"),
        ("scenes", "tiny", "mem3[eps=4]"),
    ]
    cells += [("openmoji", "tiny", "mem3"), ("scenes", "RN50", "mem3"), ("scenes", "RN50", "clean")]
    numbers = {place: float(number) for number, place in enumerate(cells, start=10)}
    tables = table2(
        record(attack, recalls=(number, number), dataset=dataset, victim=victim)
        for (dataset, victim, attack), number in numbers.items()
    )
    found = {(t.keys["dataset"], t.keys["victim"], t.keys["attack"]): t for t in tables}
    assert set(found) == {place for place in cells if place[2] != "clean"}
    for (dataset, victim, attack), table in found.items():
        label = {"em": "EM", "mem3": "MEM-3"}.get(attack, attack)
        assert cell(table, label, "R@10 I→T")["mean"] == numbers[dataset, victim, attack]
        clean = numbers.get((dataset, victim, "clean"))
        assert (clean is None) == table.cells[table.cells["row"] == "Clean"].empty
        if clean is not None:
            assert cell(table, "Clean", "R@10 I→T")["mean"] == clean


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (record("mem3", seed=2, params={"rounds": 20}), "attack mem3: rounds=6 and rounds=20"),
        (record("mem3", seed=2, surrogate="RN50"), "attack mem3: surrogate=tiny and surrogate=RN50"),
        (record("mem3", seed=2, epochs=20), "victim tiny: epochs=14 and epochs=20"),
        (record("mem3", seed=2, facts={"test_images": 500}), "data set scenes: test_images=1000 and test_images=500"),
        (
            record("mem3", "cutout", seed=2, defense_params={"size": 0.3}),
            "defense cutout: cutout.size=0.5 and cutout.size=0.3",
        ),
        (record("mem3", key="other"), "two records of one cell"),
    ],
)
def test_records_of_differing_settings_are_refused(other: Record, message: str) -> None:
    records = [record("clean"), record("mem3"), record("mem3", "cutout", defense_params={"size": 0.5}), other]
    with pytest.raises(UsageError, match=message) as caught:
        table2(records)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"fingerprints": {"test": "a"}}, {"fingerprints": {"test": "b"}}, "data set scenes: test fingerprint=a and"),
        ({"code": {"attack": "a"}}, {"code": {"attack": "b"}}, "attack mem3: code or files=a and"),
        ({"code": {"defense": "a"}}, {"code": {"defense": "b"}}, "defense none: code or files=a and"),
    ],
)
def test_seeds_of_other_code_or_other_test_data_are_refused(
    first: dict[str, Any], second: dict[str, Any], message: str
) -> None:
    records = [dataclasses.replace(record("mem3", seed=seed), provenance=p) for seed, p in ((1, first), (2, second))]
    with pytest.raises(UsageError, match=message):
        table2(records)
    older = dataclasses.replace(records[0], provenance={})  # of a version that did not say
    assert len(table2([older, records[1]])) == 1


@pytest.mark.parametrize("other", [{}, {"models": "fast"}], ids=["an older record", "a new one"])
def test_records_of_plain_and_of_fast_models_are_refused(other: dict[str, str]) -> None:
    plain = dataclasses.replace(record("mem3", seed=2), provenance={"models": "plain"})
    with pytest.raises(UsageError, match="victim tiny: models=fast and models=plain"):
        table2([dataclasses.replace(record("mem3"), provenance=other), plain])
    assert len(table2([plain])) == 1


def test_time_device_and_the_surrogate_of_clean_data_may_differ() -> None:
    other = record("clean", seed=2, surrogate="RN50", seconds={"train": 999.0})
    other = dataclasses.replace(other, provenance={"device": "NVIDIA H100"})
    (table,) = table2([record("clean"), other, record("mem3")])
    assert cell(table, "Clean", "R@10 I→T")["n"] == 2
    assert any("NVIDIA H100 and cpu" in note for note in table.notes)


def test_clean_data_alone_show_what_the_defenses_cost() -> None:
    (table,) = table2([record("clean"), record("clean", "cutout")])
    assert table.rows == ("Clean", "Cutout")
    assert "recov. %" not in table.columns.values()
    assert "Clean" in render([table], "markdown")


@pytest.mark.parametrize(("records", "message"), [([], "no records")])
def test_nothing_to_show_is_one_line(records: list[Record], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        table2(records)
    assert "\n" not in str(caught.value)


def test_what_an_attack_adds_counts_against_what_it_takes() -> None:
    clean = [record("clean", recalls=(50, 50), seed=seed) for seed in (1, 2)]
    attacked = [record("em", recalls=recalls, seed=seed) for seed, recalls in ((1, (45, 45)), (2, (55, 55)))]
    assert lost(attacked, clean) == pytest.approx({1: 10, 2: -10})


def test_means_and_deviations_are_rounded_once() -> None:
    """Of hundredths, as recalls are, ties in the last printed digit are common."""
    values = [91.11, 90.02, 92.32]
    (cell,) = summarise(
        [Observation("row", "a", "m", "%", "em", "none", value, False) for value in values]
    ).itertuples()
    assert (cell.mean, cell.std) == (fmean(values), stdev(values))

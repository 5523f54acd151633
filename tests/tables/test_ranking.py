"""Rankings of attacks and defenses in the matrix, from records made by hand."""

from collections.abc import Mapping
from statistics import fmean

import pytest

from benchmark.grid.records import Record
from benchmark.tables.iqm import Run
from benchmark.tables.make import make_tables
from benchmark.tables.ranking import worst_case
from benchmark.tables.render import render, shown
from benchmark.tables.table import Table
from tests.tables.factory import cell, record, value

LEVELS = (
    ("clean", "none", 80.0), ("em", "none", 10.0), ("em", "cutout", 20.0), ("mem3", "none", 40.0),
    ("mem3", "cutout", 40.0),
)  # fmt: skip
DEFENSES = ("none", "cutout", "mixup", "jpeg")


def grid(recalls: Mapping[str, tuple[float, ...]], seeds: tuple[int, ...] = (1, 2, 3)) -> list[Record]:
    """Recalls of each attack under :data:`DEFENSES`, a point more with every seed, and clean victims of 80."""
    records = [record("clean", recalls=(80, 80), seed=seed) for seed in seeds]
    return records + [
        record(attack, defense, recalls=(recall + seed, recall + seed), seed=seed)
        for attack, own in recalls.items()
        for defense, recall in zip(DEFENSES, own, strict=False)
        for seed in seeds
    ]


def texts(table: Table, column: str) -> dict[str, str]:
    found = table.cells[table.cells["column"] == column]
    return {str(cell.row): shown(cell) for cell in found.itertuples(index=False)}


THREE = {"em": (20.0, 22.0, 24.0, 60.0), "mem3": (20.0, 22.0, 24.0, 60.0), "mem7": (60.0, 62.0, 64.0, 78.0)}


def test_attacks_and_defenses_are_ranked_by_the_middle_half_of_their_runs() -> None:
    _, attacks, defenses = make_tables("matrix", grid(THREE))
    # Of em's twelve runs the middle six: 22 and 24 and their seeds, less the lowest and the highest of all.
    runs = sorted(recall + seed for recall in THREE["em"] for seed in (1, 2, 3))
    expected = 100 * fmean(runs[3:9]) / 80
    found = cell(attacks, "EM", "IQM %")
    assert found["mean"] == pytest.approx(expected)
    assert found["low"] < expected < found["high"]
    assert found["n"] == 12
    assert set(attacks.cells["n"][attacks.cells["column"] == "worst case %"]) == {3}
    assert attacks.rows[-1] == "MEM-7"
    assert texts(attacks, "rank") == {"EM": "1–2", "MEM-3": "1–2", "MEM-7": "3"}
    # EM and MEM-3 are equals, and both stronger than MEM-7 in every cell.
    assert texts(attacks, "beats next %") == {"MEM-3": "50", "EM": "100"}
    assert texts(attacks, "under") == dict.fromkeys(attacks.rows, "JPEG")
    assert texts(attacks, "worst case %")["MEM-7"] == f"{100 * 80 / 80:.1f}"
    assert defenses.rows == ("JPEG", "Mixup", "Cutout", "No defense")
    assert texts(defenses, "rank")["JPEG"] == "1"
    assert texts(defenses, "beats next %")["JPEG"] == "100"
    assert "No defense" not in texts(defenses, "beats next %")
    assert texts(defenses, "rank")["No defense"].endswith("–4")
    assert set(texts(defenses, "against").values()) <= {"EM", "MEM-3"}
    assert "95 % bootstrap interval over seeds and queries" in render([attacks], "markdown").replace("\n  ", " ")


def test_one_seed_has_an_interval_of_queries_alone_and_says_so() -> None:
    _, attacks, _ = make_tables("matrix", grid(THREE, seeds=(1,)))
    (note,) = (note for note in attacks.notes if note.startswith("In brackets"))
    assert "One seed, so it is over queries alone" in note


def test_an_interval_is_over_seeds_where_any_row_has_several() -> None:
    records = [one for one in grid(THREE) if (one.attack.spec, one.defense.spec) != ("em", "none") or one.seed == 1]
    _, attacks, _ = make_tables("matrix", records)
    (note,) = (note for note in attacks.notes if note.startswith("In brackets"))
    assert "interval over seeds and queries" in note
    assert "Of 1 to 3 seeds a cell" in note


def test_rankings_are_over_the_largest_part_that_all_have_run() -> None:
    """An attack that met only one defense is left out, and so is that defense, which few others met."""
    records = [*grid({**THREE, "mem5": (5.0,)}), record("em", "prefix-drop", recalls=(79, 79))]
    records += [record("mem5", "prefix-drop", recalls=(79, 79))]
    table, attacks, defenses = make_tables("matrix", records)
    assert set(attacks.rows) == {"EM", "MEM-3", "MEM-7"}
    assert set(defenses.rows) == {"No defense", "Cutout", "Mixup", "JPEG"}
    assert "Not ranked, as some of these cells are missing: MEM-5." in attacks.notes
    assert "Not ranked, as some of these cells are missing: Prefix drop." in defenses.notes
    assert "MEM-5" in table.rows


def test_defenses_that_left_the_same_victims_count_once_for_attacks() -> None:
    """Mixup changes nothing here; cutout does to MEM-3's victims alone. Each defense is still ranked."""
    _, attacks, defenses = make_tables(
        "matrix", grid({"em": (10.0, 10.0, 10.0, 70.0), "mem3": (10.0, 30.0, 10.0, 70.0)})
    )
    assert set(attacks.cells["n"][attacks.cells["column"] == "IQM %"]) == {9}
    # Three seeds of 10, 30 and 70: the middle five of nine, less the other seeds' one or two points.
    assert value(attacks, "MEM-3", "IQM %") == pytest.approx(100 * fmean((13, 31, 32, 33, 71)) / 80)
    assert "Counted once, as their victims are the same: No defense, Mixup." in attacks.notes
    assert attacks.notes[0].endswith("over No defense, Cutout, JPEG and the seeds that all these attacks have there.")
    assert set(defenses.rows) == {"No defense", "Cutout", "Mixup", "JPEG"}
    assert not any(note.startswith("Counted once") for note in defenses.notes)


def test_the_three_selections_of_an_epoch_stand_side_by_side() -> None:
    records = [
        record(attack, defense, recalls=(r, r), best=(r + 8 * (attack != "clean"),) * 2, protected=(90, 70))
        for attack, defense, r in LEVELS
    ]
    _, attacks, _ = make_tables("matrix", records)
    for column, expected in (("IQM %", 15), ("best: clean val", 23), ("best: protected", 23)):
        assert value(attacks, "EM", column) == pytest.approx(100 * expected / 80)
    late = [record(a, d, recalls=(r, r), best=(1, 1), protected=(70, 90)) for a, d, r in LEVELS]
    _, attacks, _ = make_tables("matrix", late)
    assert value(attacks, "EM", "best: protected") == pytest.approx(100 * 15 / 80)
    # Where one epoch alone was evaluated, there is no choice to make.
    _, attacks, _ = make_tables("matrix", [record(a, d, recalls=(r, r)) for a, d, r in LEVELS])
    assert not [text for text in (*attacks.columns, *attacks.notes) if text.startswith("best: ")]


def test_one_attack_alone_is_not_ranked_but_its_defenses_are() -> None:
    _, *others = make_tables("matrix", grid({"em": THREE["em"]}))
    assert [table.keys["ranked"] for table in others] == ["defenses"]


def test_ranks_say_whether_seeds_stand_behind_them() -> None:
    """Three seeds without a defense, and one under each: the undefended cell alone says what other seeds would do."""
    three = grid(THREE, seeds=(1, 2, 3))
    some = [one for one in three if one.seed == 1 or one.defense.spec == "none"]
    for records, number in ((some, "Of 1 to 3 seeds a cell"), (three, "Of 3 seeds a cell")):
        _, attacks, _ = make_tables("matrix", records)
        assert any(number in note for note in attacks.notes)
        assert any(note.startswith("rank: ") and "other seeds or queries" in note for note in attacks.notes)
    bare = [one for one in three if one.seed == 1 or one.attack.spec == "clean"]
    _, attacks, _ = make_tables("matrix", bare)
    (ranks,) = (note for note in attacks.notes if note.startswith("rank: "))
    assert ranks.endswith("No two seeds are shared by all, so ranks say nothing of other seeds.")


def test_means_are_over_the_seeds_that_all_have() -> None:
    """EM is the stronger one over three seeds, and the weaker one on the seed that MEM-3 has as well."""
    records = [record("clean", recalls=(80, 80), seed=seed) for seed in (1, 2, 3)]
    for defense in ("none", "cutout"):
        records += [record("em", defense, recalls=(r, r), seed=seed) for seed, r in ((1, 40), (2, 4), (3, 4))]
    records += [record("mem3", recalls=(r, r), seed=seed) for seed, r in ((1, 20), (2, 20), (3, 20))]
    records += [record("mem3", "cutout", recalls=(20, 20), seed=1)]
    _, attacks, _ = make_tables("matrix", records)
    worst = attacks.cells[attacks.cells["column"] == "worst case %"].set_index("row")["mean"]
    assert (worst.to_dict(), texts(attacks, "under")["EM"]) == ({"EM": 50, "MEM-3": 25}, "Cutout")
    counted = attacks.cells[attacks.cells["column"] == "IQM %"].set_index("row")
    assert counted["n"].to_dict() == {"EM": 4, "MEM-3": 4}
    assert "the seeds that all these attacks have there." in attacks.notes[0]
    # The middle two of 40, 4, 4 and 40 of 80.
    assert counted["mean"]["EM"] == pytest.approx(100 * 22 / 80)


def test_rows_are_in_the_order_of_their_ranks() -> None:
    """Over the seeds that both have, MEM-3 is stronger; over all of its own, EM is. Under mixup, no seed is shared."""
    records = [record("clean", recalls=(80, 80), seed=seed) for seed in range(1, 13)]
    for defense in ("none", "cutout"):
        levels = [30, 31, 32, *[1] * 9]
        records += [record("em", defense, recalls=(r, r), seed=seed) for seed, r in enumerate(levels, start=1)]
        records += [record("mem3", defense, recalls=(r, r), seed=seed) for seed, r in ((1, 15), (2, 16), (3, 17))]
    records += [record("em", "mixup", recalls=(1, 1), seed=4), record("mem3", "mixup", recalls=(15, 15), seed=1)]
    _, attacks, _ = make_tables("matrix", records)
    assert attacks.rows == ("MEM-3", "EM")
    assert texts(attacks, "rank") == {"MEM-3": "1", "EM": "2"}
    assert "their seeds, which differ." in attacks.notes[0]


def test_best_epochs_are_of_the_seeds_that_all_have_as_well() -> None:
    records = [record("clean", recalls=(80, 80), best=(80, 80), seed=seed) for seed in (1, 2)]
    for defense in ("none", "cutout"):
        records += [record("em", defense, recalls=(8, 8), best=(r, r), seed=seed) for seed, r in ((1, 40), (2, 8))]
        records.append(record("mem3", defense, recalls=(20, 20), best=(20, 20)))
    _, attacks, _ = make_tables("matrix", records)
    best = attacks.cells[attacks.cells["column"] == "best: clean val"].set_index("row")["mean"]
    assert best.to_dict() == {"EM": 50, "MEM-3": 25}


def test_the_worst_case_is_a_mean_of_shares_over_all_seeds() -> None:
    """Of four seeds an interquartile mean would leave two out, and recalls say nothing without their clean victims."""
    records = [record("clean", recalls=(80, 80), seed=seed) for seed in (1, 2, 3, 4)]
    for attack, levels in (("em", (10, 10, 10, 50)), ("mem3", (5, 5, 5, 5))):
        for defense in ("none", "cutout"):
            records += [record(attack, defense, recalls=(r, r), seed=seed) for seed, r in enumerate(levels, start=1)]
    _, attacks, _ = make_tables("matrix", records)
    worst = attacks.cells[attacks.cells["column"] == "worst case %"].set_index("row")["mean"]
    assert worst.to_dict() == {"EM": 25, "MEM-3": 6.25}
    cells = {"jpeg": {1: Run(40, 80, 1000)}, "none": {2: Run(30, 40, 1000)}}
    assert (worst_case(cells, of_attack=True), worst_case(cells, of_attack=False)) == ("none", "jpeg")

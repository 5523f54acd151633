"""The matrix attack × defense against hand-worked numbers."""

from dataclasses import replace
from statistics import stdev

import pytest

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record, ResolvedSpec
from benchmark.tables.attacks import attacks
from benchmark.tables.defenses import table2
from benchmark.tables.make import make_tables
from benchmark.tables.render import render
from benchmark.tables.table import Caution, Table
from tests.tables.factory import SCENES, cell, record


def matrix(*records: Record) -> Table:
    return make_tables("matrix", records)[0]


def marked(table: Table, mark: str) -> set[tuple[str, str]]:
    found = table.cells[table.cells[mark]]
    return set(zip(found["row"], found["column"], strict=True))


def several() -> list[Record]:
    cells = {
        ("clean", "none"): 50.0, ("clean", "cutout"): 40.0, ("mem3", "none"): 10.0, ("mem3", "cutout"): 12.0,
        ("mem3", "prefix-drop"): 48.0, ("em", "none"): 25.0, ("em", "adv-training"): 45.0, ("em", "cutout"): 10.0,
        ("mem7", "none"): 5.0,
    }  # fmt: skip
    return [record(attack, defense, recalls=(r + 2, r - 2)) for (attack, defense), r in cells.items()]


def test_each_cell_is_the_share_of_the_clean_recall_that_is_kept() -> None:
    table = matrix(*several())
    assert table.rows == ("MEM-3", "EM", "Clean data")
    assert "Ran only without a defense; see table 'attacks': MEM-7." in table.notes
    assert list(table.columns) == ["No defense", "Adv training", "Cutout", "Prefix drop"]
    lines = {line.split("|")[1].strip(): line for line in render([table], "markdown").split("\n") if "|" in line}
    shown = {row: [part.strip() for part in lines[row].split("|")[2:-1]] for row in table.rows}
    assert shown == {
        "MEM-3": ["_20.0_", "–", "24.0", "**96.0**"],
        "EM": ["50.0", "**90.0**", "_20.0_", "–"],
        "Clean data": ["100.0", "–", "80.0", "–"],
    }


def test_every_table_of_the_matrix_says_of_which_epoch_it_is() -> None:
    for table in make_tables("matrix", several()):
        assert "after the last epoch" in table.notes[0].lower()


def test_an_attack_may_have_the_name_of_the_row_of_clean_data() -> None:
    ours = ResolvedSpec("clean-data", "Clean data")
    records = [replace(one, attack=ours) if one.attack.spec == "em" else one for one in several()]
    table = matrix(*records)
    assert table.rows == ("MEM-3", "Clean data (clean-data)", "Clean data")
    assert "| Clean data (clean-data) |" in render([table], "markdown")


def test_the_worst_defense_of_each_attack_and_the_strongest_attack_of_each_defense_are_marked() -> None:
    table = matrix(*several())
    assert marked(table, "best") == {("MEM-3", "Prefix drop"), ("EM", "Adv training")}
    # Against adversarial training and prefix-drop there was one attack each, the strongest of none.
    assert marked(table, "strongest") == {("MEM-3", "No defense"), ("EM", "Cutout")}


def test_a_defense_that_brings_nothing_back_is_no_worst_one() -> None:
    table = matrix(record("clean", recalls=(50, 50)), record("mem3"), record("mem3", "cutout", recalls=(9, 8)))
    assert not table.cells["best"].any()


def test_a_defense_helps_on_the_seeds_that_it_has() -> None:
    """On seed 1 less is kept under cutout than without it, though more than without it on average over three seeds."""
    records = [record("clean", recalls=(80, 80), seed=seed) for seed in (1, 2, 3)]
    records += [record("em", recalls=(r, r), seed=seed) for seed, r in ((1, 40), (2, 8), (3, 8))]
    table = matrix(*records, record("em", "cutout", recalls=(32, 32)), record("em", "jpeg", recalls=(30, 30)))
    assert not table.cells["best"].any()
    assert any(isinstance(note, Caution) and note.startswith("Seeds other than") for note in table.notes)
    better = matrix(*records, record("em", "cutout", recalls=(44, 44)), record("em", "jpeg", recalls=(30, 30)))
    assert marked(better, "best") == {("EM", "Cutout")}


def test_nothing_is_marked_where_there_is_nothing_to_rank() -> None:
    harmless = [record("clean", recalls=(50, 50)), record("em", recalls=(45, 45)), record("em", "cutout", (50, 50))]
    table = matrix(*harmless)
    assert not table.cells["best"].any()
    assert "Nothing is bold where the attack takes less than 20 % of the clean recall: EM." in table.notes
    facts = {**SCENES, "test_images": 20, "test_captions": 100}  # where chance is 41.6 and 50.0
    levels = (("clean", "none", 42.0), ("mem3", "none", 20.0), ("mem3", "cutout", 40.0), ("em", "none", 30.0))
    tables = make_tables("matrix", [record(a, d, recalls=(r, r), facts=facts) for a, d, r in levels])
    assert len(tables) == 1
    assert not tables[0].cells[["best", "strongest"]].any(axis=None)
    assert any(note.startswith("Near chance: ") for note in tables[0].notes)


def test_the_spread_is_that_of_pairs() -> None:
    """Seeds whose recall differs by 30 points, but of which each keeps a fifth."""
    records = []
    for seed, clean in ((1, 40.0), (2, 70.0), (3, 55.0)):
        records += [record("clean", recalls=(clean, clean), seed=seed), record("mem3", recalls=(10, 10), seed=seed)]
        records.append(record("mem3", "cutout", recalls=(clean / 5, clean / 5), seed=seed))
    table = matrix(*records)
    assert cell(table, "MEM-3", "Cutout")["mean"] == pytest.approx(20)
    assert cell(table, "MEM-3", "Cutout")["std"] == pytest.approx(0, abs=1e-9)
    shares = [100 * 10 / clean for clean in (40.0, 70.0, 55.0)]
    assert cell(table, "MEM-3", "No defense")["std"] == pytest.approx(stdev(shares))


def gated() -> list[Record]:
    """EM is no stronger than noise, and clean victims under mixup learn nothing; MEM-3 and MEM-7 are sound."""
    recipe = {"batch_size": 128}
    recalls = {
        "clean": (90, 80, 20, 70), "uniform-noise": (89, 80, 20, 70), "em": (88, 5, 5, 5), "mem3": (10, 20, 15, 80),
        "mem7": (20, 30, 15, 40),
    }  # fmt: skip
    return [
        record(
            attack, defense, recalls=(recall, recall), recipe=recipe, params={"eps": 8},
            loss=[4.8, 4.7 if defense == "mixup" else 1.0],
        )
        for attack, own in recalls.items()
        for defense, recall in zip(("none", "cutout", "mixup", "jpeg"), own, strict=True)
    ]  # fmt: skip


def test_a_cell_whose_gate_fails_is_in_brackets_and_out_of_marks_and_ranks() -> None:
    table, attacks, defenses = make_tables("matrix", gated())
    out = table.cells[~table.cells["counts"]]
    assert set(out["row"][out["column"] != "Mixup"]) == {"EM"}
    assert set(out["row"][out["column"] == "Mixup"]) == set(table.rows)
    assert " (97.8) |" in render([table], "markdown")
    warnings = [note for note in table.notes if isinstance(note, Caution) and note.startswith("In brackets")]
    assert warnings == [
        "In brackets, as a gate fails (clearly stronger than uniform noise of the same ε, without a defense): EM: "
        "97.8 %.",
        "In brackets, as a gate fails (a clean victim's last loss at most 0.75 ln B, and at least 20 % of the recall "
        "kept): Mixup: 0.97 ln B and 22.22 %.",
    ]
    unknown = "Gate not shown by these records (no weaker with larger ε, without a defense): "
    assert f"{unknown}all attacks." in table.notes
    two_eps = [record("mem3[eps=4]", recalls=(60, 60), recipe={"batch_size": 128}, params={"eps": 4}), *gated()]
    assert f"{unknown}MEM-7, EM, Uniform noise." in make_tables("matrix", two_eps)[0].notes
    assert marked(table, "strongest") == {("MEM-3", "No defense"), ("MEM-3", "Cutout"), ("MEM-7", "JPEG")}
    assert marked(table, "best") == {("MEM-3", "JPEG"), ("MEM-7", "JPEG")}
    assert attacks.rows == ("MEM-7", "MEM-3")
    unranked = "Not ranked, as a gate fails or as it is the noise that attacks are compared with: EM, Uniform noise."
    assert unranked in attacks.notes
    assert set(defenses.rows) == {"No defense", "Cutout", "JPEG"}


def test_an_attack_that_fails_by_its_other_eps_may_lack_an_undefended_victim() -> None:
    records = [record("clean", seed=seed, recalls=(90, 90)) for seed in (1, 2, 3)]
    records += [
        record(f"em[eps={eps}]", seed=seed, recalls=(recall + seed, recall + seed), params={"eps": eps})
        for eps, recall in ((2, 10), (4, 70))
        for seed in (1, 2, 3)
    ]
    records += [record("em[eps=8]", "cutout", seed=seed, params={"eps": 8}) for seed in (1, 2, 3)]
    (note,) = (note for note in make_tables("matrix", records)[0].notes if note.startswith("In brackets"))
    assert note.endswith(": em[eps=8]: not run without a defense.")


def test_a_matrix_needs_a_defended_victim_and_a_clean_one() -> None:
    for records in ([record("clean"), record("mem3")], [record("mem3"), record("mem3", "cutout")]):
        with pytest.raises(UsageError, match="no defended victim beside a clean one"):
            matrix(*records)


def test_no_weakness_is_told_of_an_attack_whose_undefended_victim_is_missing() -> None:
    table = matrix(*(one for one in several() if (one.attack.spec, one.defense.spec) != ("em", "none")))
    assert "Nothing is bold where no seed has both an undefended victim and a clean one: EM." in table.notes
    assert not [note for note in table.notes if "takes less than" in note]
    assert not [row for row, _ in marked(table, "best") if row == "EM"]


def test_of_equally_many_cells_the_seeds_of_the_first_are_usual() -> None:
    """The same records give the same table, in whatever order a set yields its members."""
    records = [record("clean"), record("clean", seed=2), *(record(seed=seed) for seed in (1, 2))]
    records += [record(attack, "cutout") for attack in ("mem3", "em")]
    (line,) = [note for note in matrix(*records).notes if note.startswith("Seeds other than")]
    assert line == "Seeds other than 1–2: MEM-3 × Cutout: 1; EM × Cutout: 1."


def test_other_seeds_are_told_however_many_there_are() -> None:
    odd, even = (1, 3, 5, 7, 9, 11), (2, 4, 6, 8, 10, 12)
    records = [record("clean", seed=seed) for seed in range(1, 13)]
    records += [record("mem3", seed=seed) for seed in odd] + [record("mem3", "cutout", seed=seed) for seed in even]
    (line,) = [note for note in matrix(*records).notes if note.startswith("Seeds other than")]
    assert "MEM-3 × No defense: 1, 3, 5, 7, 9, 11" in line
    assert "MEM-3 × Cutout: 2, 4, 6, 8, 10, 12" in line


def test_a_cell_without_a_seed_is_told_beside_those_that_have_one() -> None:
    records = [record("clean"), *(record("mem3", defense, failed="it broke") for defense in ("none", "cutout", "jpeg"))]
    (line,) = [note for note in matrix(*records).notes if note.startswith("Seeds other than")]
    assert line.startswith("Seeds other than 1: MEM-3 × No defense: none; MEM-3 × Cutout: none;")
    nothing_kept = matrix(record("clean", recalls=(0, 0)), record("mem3", "cutout"))
    assert not [note for note in nothing_kept.notes if note.startswith("Seeds other than")]


def test_seeds_without_a_clean_victim_are_in_no_cell() -> None:
    records = [record("clean", recalls=(50, 50), seed=seed) for seed in (1, 2)]
    assert not [note for note in matrix(*records, record("mem3", "cutout")).notes if "leave out" in note]
    records += [record("mem3", defense, seed=seed) for defense in ("none", "cutout") for seed in (1, 2, 3)]
    assert not [note for note in matrix(*records).notes if note.startswith("Seeds other than")]
    missing = "Shares of the clean recall leave out seed 3, of which no clean, undefended victim is done."
    for table in (matrix(*records), *attacks(records), *table2(records)):
        assert [note for note in table.notes if isinstance(note, Caution) and note == missing], table.title

"""The table of attacks against hand-worked numbers."""

from dataclasses import replace

import pandas as pd
import pytest

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record
from benchmark.tables.make import make_tables
from benchmark.tables.render import render
from benchmark.tables.table import Table
from tests.tables.factory import record, value

NUMBERS = {"clean": 60.0, "mem3": 6.0, "em": 57.0, "delta-only": 54.0, "trigger-only": 48.0, "uniform-noise": 60.0}
NUMBERS |= {"random-trigger": 51.0, "em-official": 45.0, "mem-official": 3.0}
NUMBERS |= {"trigger-uniform": 42.0, "same-words": 58.0}
OFFICIAL = ("EM (em-official)", "MEM-3 (mem-official)")
CONTROLS = ("Delta only", "Trigger only", "Trigger + uniform", "Uniform noise", "Random trigger", "Same words")
ROWS = ("Clean", "MEM-3", "EM", *CONTROLS, *OFFICIAL)


def attacks_table(*records: Record) -> Table:
    (table,) = make_tables("attacks", records)
    return table


def several() -> list[Record]:
    # From image to text and back, the mean of which is NUMBERS.
    return [record(name, recalls=(n + 2, n - 2), ranks=(100 - n, 90 - n)) for name, n in NUMBERS.items()]


def test_every_attack_has_its_own_row_and_scores() -> None:
    table = attacks_table(*several(), record("mem3", "cutout", recalls=(99, 99)))
    assert table.rows == ROWS
    assert [value(table, "Trigger only", c) for c in ("R@10 I→T", "Medr I→T", "R@10 T→I", "Medr T→I")] == [
        50,
        52,
        46,
        42,
    ]
    assert value(table, "MEM-3", "R@10 I→T") == 8


def test_lost_is_the_share_of_the_clean_recall_of_the_same_seed() -> None:
    table = attacks_table(*several())
    lost = {row: value(table, row, "lost %") for row in table.rows}
    assert lost["Clean"] == lost["Uniform noise"] == 0
    assert (lost["MEM-3"], lost["EM"], lost["Delta only"]) == (pytest.approx(90), pytest.approx(5), pytest.approx(10))
    assert (lost["EM (em-official)"], lost["MEM-3 (mem-official)"]) == (pytest.approx(25), pytest.approx(95))
    paired = [record("clean", recalls=(r, r), seed=seed) for seed, r in {1: 50.0, 2: 80.0}.items()]
    paired += [record("em", recalls=(r, r), seed=seed) for seed, r in {1: 40.0, 2: 40.0, 3: 5.0}.items()]
    # 10 of 50 and 40 of 80; seed 3 has no clean victim.
    found = attacks_table(*paired).cells.query("row == 'EM' and column == 'lost %'").iloc[0]
    assert (found["mean"], found["n"]) == (pytest.approx(35), 2)


def test_what_did_not_run_is_named_in_a_note() -> None:
    table = attacks_table(record("clean"), record("mem3"))
    quick = tuple(row for row in ROWS if row not in OFFICIAL)
    assert table.rows == quick[:2]
    assert f"Not run: {', '.join(quick[2:])}." in table.notes


def test_a_variant_takes_the_plain_attacks_place_and_namesakes_are_told_apart() -> None:
    table = attacks_table(record("clean"), record("mem3[eps=4]"), record("mem-official"), record("mem7"))
    assert table.rows[:3] == ("Clean", "mem3[eps=4]", "MEM-7")
    assert table.rows[-1] == "MEM-3 (mem-official)"
    assert "MEM-3" not in table.rows
    assert pd.notna(value(table, "MEM-3 (mem-official)", "R@10 I→T"))


def test_visibility_has_columns_where_ssim_was_measured() -> None:
    plain = attacks_table(record("clean"), record("em"))
    assert not {"PSNR", "SSIM"} & set(plain.columns)
    table = attacks_table(record("clean"), record("em", poison={"psnr": 33.24, "ssim": 0.9316}))
    line = next(line for line in render([table], "markdown").split("\n") if line.startswith("| EM "))
    assert " 33.2 |" in line
    assert " 0.932 |" in line


@pytest.mark.parametrize(("recall", "columns"), [(89.0, 0), (91.0, 2)])
def test_recall_at_1_has_columns_where_recall_at_10_saturates(recall: float, columns: int) -> None:
    table = attacks_table(record("clean", recalls=(recall, recall)), record("em"))
    assert sum(name.startswith("R@1 ") for name in table.columns) == columns


def test_nothing_to_show_is_one_line() -> None:
    with pytest.raises(UsageError, match="no undefended attack"):
        make_tables("attacks", [record("clean")])
    with pytest.raises(UsageError, match="the paper has no table of attacks"):
        make_tables("attacks", several(), beside_paper=True)


def test_what_probes_read_has_columns_and_a_note_where_it_was_measured() -> None:
    def probed(attack: str, seed: int = 1, **parts: tuple[float, float, dict[str, float]]) -> Record:
        poison: dict[str, object] = {}
        for part, (auc, shuffled, words) in parts.items():
            poison |= {f"probe_{part}_auc": auc, f"probe_{part}_shuffled": shuffled, f"probe_{part}_words": words}
        return record(attack, poison=poison, seed=seed)

    assert "AUC trigger" not in attacks_table(*several()).columns
    first = probed("mem3", trigger=(0.6, 0.49, {"red": 0.99, "blue": 0.9}), noise=(0.5, 0.5, {}))
    second = probed("mem3", 2, trigger=(0.7, 0.52, {"blue": 0.94, "grey": 0.96}), noise=(0.52, 0.48, {}))
    only = probed("trigger-only", trigger=(0.55, 0.5, {}))
    table = attacks_table(record("clean"), record("clean", seed=2), first, second, only)
    assert list(table.columns)[-2:] == ["AUC trigger", "AUC δ"]
    assert value(table, "MEM-3", "AUC trigger") == pytest.approx(0.65)
    assert value(table, "MEM-3", "AUC δ") == pytest.approx(0.51)
    lines = render([table], "markdown").split("\n")
    grid = [[part.strip() for part in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    ends = {row: values[-3:-1] for row, *values in grid}  # the last column names the seeds
    assert ends["MEM-3"] == ["0.65±0.07", "0.51±0.01"]
    assert ends["Trigger only"][1] == ends["Clean"][0] == ends["Clean"][1] == "–"
    (note,) = (note for note in table.notes if note.startswith("AUC: "))
    assert note.endswith(
        "read best. MEM-3: trigger 0.65 (shuffled 0.51; “blue” 0.92, “red” 0.99, “grey” 0.96), δ 0.51 (shuffled 0.49); "
        "Trigger only: trigger 0.55 (shuffled 0.50)."
    )


def test_the_loss_is_that_of_the_last_round_and_stands_only_where_surrogates_were_trained() -> None:
    column = {*attacks_table(*several()).columns}
    crafted = [
        replace(one, poison={**one.poison, "loss_per_round": [4.8, 3.0, float(one.seed)]})
        for one in (record("em", recalls=(57, 57), seed=seed, params={"batch_size": 64}) for seed in (1, 2))
    ]
    table = attacks_table(*several()[:2], *(record("clean", recalls=(60, 60), seed=2),), *crafted)
    assert {*table.columns} - column == {"crafting loss"}
    assert value(table, "EM", "crafting loss") == 1.5
    assert not len(table.cells.query("row == 'MEM-3' and column == 'crafting loss'").dropna(subset="mean"))
    assert " 1.50±0.71 |" in render([table], "markdown")
    assert "(the logarithm of the crafting batch, 4.15 to 4.16 nats for 64)" in " ".join(table.notes)


def test_chance_is_that_of_the_batch_in_a_spec_within_a_spec() -> None:
    params = {"attack": "em[rounds=8,batch_size=64]", "defense": "jpeg"}
    crafted = record("em-aug", params=params, poison={"loss_per_round": [2.0]})
    (table,) = make_tables("attacks", [record("clean"), crafted])
    assert any("4.15 to 4.16 nats for 64" in note for note in table.notes)


@pytest.mark.parametrize("size", [None, 0, "whole", [64]])
def test_a_batch_size_of_another_kind_names_no_chance(size: object) -> None:
    """A plug-in may have a parameter of that name for something else."""
    records = [record("clean"), record("mem3", params={"batch_size": size}, poison={"loss_per_round": [2.0]})]
    (table,) = make_tables("attacks", records)
    assert not any("nats for" in note for note in table.notes)

"""Table 1 against hand-worked numbers."""

import pytest

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record
from benchmark.tables.lengths import table1
from benchmark.tables.make import make_tables
from benchmark.tables.render import render
from tests.tables.factory import record, value


def lengths() -> list[Record]:
    records = [
        record(
            attack, recalls=(number, number + 0.5), ranks=(100 + number, 200 + number), best=(number + 5, number + 6)
        )
        for number, attack in enumerate(("mem7", "em", "mem3", "clean", "mem1"), start=1)
    ]
    return [*records, record("mem3", "cutout", recalls=(99, 99))]


def test_columns_are_clean_em_and_the_papers_lengths_in_order_run_or_not() -> None:
    (table,) = table1(lengths())
    names = ("clean", "k=0", "k=1", "k=3", "k=5", "k=7")
    assert list(table.columns) == [f"{name} {direction}" for name in names for direction in ("I→T", "T→I")]
    assert "Not run: k=5." in table.notes
    assert table.cells[table.cells["column"].str.startswith("k=5")].empty
    lines = render([table], "markdown").split("\n")
    assert [part.strip() for part in lines[4].split("|")][10:12] == ["–", "–"]


def test_controls_and_official_budgets_have_a_length_but_no_column() -> None:
    others = [record(name, recalls=(77, 77)) for name in ("delta-only", "trigger-only", "mem-official")]
    (table,) = table1([*lengths(), *others])
    assert value(table, "R@10", "k=3 I→T") == 3


def test_each_score_lands_in_its_own_cell_and_defended_runs_in_none() -> None:
    (table,) = table1(lengths())
    assert (value(table, "R@10", "k=3 I→T"), value(table, "R@10", "k=3 T→I")) == (3, 3.5)
    assert (value(table, "Medr", "k=0 I→T"), value(table, "Medr", "k=0 T→I")) == (102, 202)
    assert value(table, "R@10, best on clean val", "k=7 I→T") == 6
    assert value(table, "R@10, best on clean val", "clean T→I") == 10
    ranks = (value(table, "Medr, best on clean val", "k=1 I→T"), value(table, "Medr, best on clean val", "k=1 T→I"))
    assert ranks == (90, 95)
    assert not any("protected" in row for row in table.rows)


def test_protected_data_choose_their_own_epoch_in_rows_of_their_own() -> None:
    (table,) = table1([record("em", recalls=(3, 4), ranks=(7, 8), best=(30, 40), protected=(50, 60))])
    assert table.rows[-2:] == ("R@10, best on protected", "Medr, best on protected")
    assert [value(table, row, "k=0 T→I") for row in table.rows] == [4, 8, 40, 95, 4, 8]
    assert sum("not held out" in note for note in table.notes) == 1
    # Where one epoch alone was evaluated, there is no choice to make.
    (table,) = table1([record("em", recalls=(3, 4), ranks=(7, 8))])
    assert table.rows == ("R@10", "Medr")
    assert not any(note.startswith("best on") for note in table.notes)


def test_the_paper_stands_below_ours() -> None:
    text = render(table1(lengths(), beside_paper=True), "markdown")
    lines = [[part.strip() for part in line.strip("|").split("|")] for line in text.split("\n") if line.startswith("|")]
    assert [line[0] for line in lines[2:]] == [
        "R@10", "paper", "Δ", "Medr", "paper", "Δ", "R@10, best on clean val", "Medr, best on clean val",
    ]  # fmt: skip
    # Of clean, k = 0, 1, 3, 5, 7; the paper's table holds neither of the first two; 5 was not run here.
    assert lines[2][9:11] == ["–", "–"]
    assert lines[3][1:] == ["–", "–", "–", "–", "4.3", "2.5", "3.8", "2.2", "3.9", "2", "3.5", "2"]
    assert lines[7][7:9] == [f"{103 - 412:+d}", f"{203 - 308:+d}"]


def test_a_difference_that_rounds_to_nothing_has_no_minus_sign() -> None:
    lines = render(table1([record("mem1", recalls=(4.27, 2.52))], beside_paper=True), "markdown").split("\n")
    (differences,) = [
        [part.strip() for part in line.split("|")] for line in lines if line.startswith("| Δ") and "." in line
    ]
    assert differences[6:8] == ["+0.0", "+0.0"]  # the paper has 4.3 and 2.5


def test_of_settings_of_one_length_the_presets_is_shown_and_the_others_are_named() -> None:
    (table,) = table1([record("mem3[eps=4]", recalls=(50, 50)), record("mem3", recalls=(12, 8))])
    assert value(table, "R@10", "k=3 I→T") == 12
    (line,) = [note for note in table.notes if note.startswith("Not in this table")]
    assert "mem3[eps=4]" in line
    assert not [note for note in table1([record("mem3")])[0].notes if note.startswith("Not in this table")]


def test_settings_of_one_length_none_of_which_is_the_presets_are_refused() -> None:
    with pytest.raises(UsageError, match=r"trigger length 3: mem3\[eps=2\], mem3\[eps=4\]"):
        table1([record("mem3[eps=2]"), record("mem3[eps=4]")])


@pytest.mark.parametrize(
    ("records", "message"),
    [([], "no records"), ([record("clean")], "no undefended"), ([record("mem3", "cutout")], "no undefended")],
)
def test_nothing_to_show_is_one_line(records: list[Record], message: str) -> None:
    for name in ("1", "attacks"):
        with pytest.raises(UsageError, match=message) as caught:
            make_tables(name, records)
        assert "\n" not in str(caught.value)


def test_the_table_says_of_which_epoch_it_is() -> None:
    (table,) = make_tables("1", [record("clean"), record("mem3")])
    assert table.notes[0].startswith("R@10, Medr: after the last epoch.")

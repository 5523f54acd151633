"""Markdown, LaTeX, CSV and JSON of one table, and the paper's numbers beside ours."""

import io
import json
import re
import subprocess
import warnings
from dataclasses import replace
from math import nan
from pathlib import Path
from shutil import which

import pandas as pd
import pytest

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record
from benchmark.tables import FORMATS
from benchmark.tables.defenses import table2
from benchmark.tables.make import make_tables
from benchmark.tables.published import published
from benchmark.tables.render import render
from tests.tables.factory import record


def several() -> list[Record]:
    records = [record("clean", recalls=(56, 50), ranks=(8, 10)), record("mem3", recalls=(10, 8))]
    records += [record("mem3", recalls=(11, 8), ranks=(153, 200), seed=2)]
    records += [
        record("mem3", "cutout", recalls=(12.34, 7), ranks=(9.5, 210), strength="5 % & a_b, α ~ {1} #2 | $3 \\x ^")
    ]
    return [*records, record("mem3", "mixup", failed="boom"), record("clean", "mixup")]


def lines_of(text: str) -> dict[str, list[str]]:
    """A pipe table's rows by first cell."""
    split = [[part.strip() for part in line.strip("|").split("|")] for line in text.split("\n") if line.startswith("|")]
    return {line[0]: line[1:] for line in split}


def test_markdown_rounds_marks_and_fills() -> None:
    lines = lines_of(render(table2(several()), "markdown"))
    heads = "R@10 I→T,Medr I→T,R@10 T→I,Medr T→I,clean I→T,clean T→I,clean %,recov. %"
    assert lines["Defense"] == [*heads.split(","), "seeds"]
    assert lines["Clean"][-1] == "1"
    assert lines["MEM-3"][-1] == "1–2"
    assert lines["MEM-3"][:4] == ["10.5±0.7", "152±2", "8.0±0.0", "200±0"]
    assert lines["Cutout"] == "**12.3**,**9.5**,**7.0**,**210**,–,–,–,**1.5**,1".split(",")
    assert lines["Mixup"] == "failed,failed,failed,failed,10.0,8.0,17.0,failed,none".split(",")


def test_markdown_fits_a_wide_terminal() -> None:
    records = [record("mem3", "synonym-replacement", recalls=(51.6, 48.7)), record("clean", "synonym-replacement")]
    text = render(table2([record("clean", recalls=(56, 50)), record("mem3"), *records]), "markdown")
    assert max(map(len, text.split("\n"))) <= 150


def test_notes_of_all_tables_stand_once_below_the_last() -> None:
    (table,) = table2(several())
    first, second = (replace(table, title=title, notes=("common *to* both", f"{title}'s own")) for title in ("A", "B"))
    text = render([first, second], "markdown")
    assert text.endswith("\n- B's own\n\n**Of all tables above**\n\n- common \\*to\\* both")
    assert text.count("common") == 1
    assert text.count("- A's own\n\n**B**") == 1
    assert render([first], "markdown").endswith("\n\n- common \\*to\\* both\n- A's own")
    alone = replace(second, notes=("another",))
    assert "Of all" not in render([first, alone], "markdown")


def test_latex_is_booktabs_with_everything_escaped() -> None:
    (table,) = table2(several())
    text = render([table], "latex")
    assert [text.count(rf"\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 1, 1]
    assert re.findall(r"\\(begin|end)\{(\w+\*?)\}", text) == [
        ("begin", "table*"), ("begin", "tabular"), ("end", "tabular"), ("begin", "itemize"), ("end", "itemize"),
        ("end", "table*"),
    ]  # fmt: skip
    assert r"10.5$\pm$0.7 & 152$\pm$2" in text
    assert r"Cutout & \textbf{12.3} & \textbf{9.5}" in text
    assert r"R@10 I$\to$T" in text
    assert r"5 \% \& a\_b, $\alpha$ \textasciitilde{} \{1\} \#2 | \$3 \textbackslash{}x \textasciicircum{}" in text
    assert r"\caption{MEM-3 against defenses; scenes, victim tiny}" in text
    assert text.isascii()
    bare = re.sub(r"\\[{}$&%#_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not set("#%~^_") & set(re.sub(r"\\textasciitilde|\\textasciicircum", "", bare))
    body = bare.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().split("\n")
    assert {line.count("&") for line in body} == {len(table.columns) + 1}  # the rows' names before, their seeds after


def test_latex_has_a_glyph_for_every_letter() -> None:
    """A bracket at a row's start would be an argument of the row before; fonts have no Chinese; é is in all of them."""
    one = record("mem3", "cutout")
    odd = replace(one, defense=replace(one.defense, label="[é] ≈ 漢"))
    text = render(table2([record("clean"), record("mem3"), odd]), "latex")
    assert r"{[}é] $\approx$ ? (cutout) &" in text


@pytest.mark.parametrize("beside_paper", [False, True])
@pytest.mark.skipif(which("pdflatex") is None, reason="needs LaTeX")
def test_latex_compiles_and_fits_a_page(beside_paper: bool, tmp_path: Path) -> None:
    records = [
        record(attack, defense, recalls=(50.2 + seed, 57.0 - seed), seed=seed)
        for seed in (1, 2, 3)
        for attack in ("clean", "em", "mem1", "mem3", "mem5", "mem7")
        for defense in ("none", "cutout", "random-swap")
    ]
    names = ("1", "2") if beside_paper else ("1", "2", "cost")
    tables = [one for name in names for one in make_tables(name, records, beside_paper=beside_paper)]
    preamble = r"\documentclass[a4paper,twocolumn]{article}\usepackage[margin=2cm]{geometry}\usepackage{booktabs}"
    document = preamble + "\n\\begin{document}\n" + render(tables, "latex") + "\n\\end{document}\n"
    (tmp_path / "tables.tex").write_text(document, "utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_markdown_takes_a_bar_in_a_name_for_text() -> None:
    one = record("mem3", "cutout")
    odd = replace(one, defense=replace(one.defense, label="a|b"))
    assert r"| a\|b " in render(table2([record("clean"), record("mem3"), odd]), "markdown")


def test_csv_holds_plain_numbers() -> None:
    frame = pd.read_csv(io.StringIO(render(table2(several()), "csv")))
    assert all(pd.api.types.is_numeric_dtype(frame[name]) for name in ("mean", "std", "n"))
    found = frame[(frame["row"] == "MEM-3") & (frame["column"] == "R@10 I→T")].iloc[0]
    assert (found["mean"], found["std"], found["n"]) == (10.5, pytest.approx(0.5**0.5, abs=1e-6), 2)
    assert (found["dataset"], found["victim"], found["attack"], found["defense"]) == ("scenes", "tiny", "mem3", "none")
    assert frame[frame["row"] == "Cutout"].iloc[0]["mean"] == 12.34
    assert frame[frame["row"] == "Mixup"].iloc[0]["failed"]


def test_several_tables_share_one_csv() -> None:
    frame = pd.read_csv(io.StringIO(render(table2([record("em"), record("mem3")]), "csv")))
    assert set(frame["attack"]) == {"em", "mem3"}


def test_json_holds_every_cell_and_note() -> None:
    tables = table2(several())
    (data,) = json.loads(render(tables, "json"))
    assert data["notes"] == list(tables[0].notes)
    assert len(data["cells"]) == len(tables[0].cells)
    cells = {(cell["row"], cell["column"]): cell for cell in data["cells"]}
    assert cells["Cutout", "R@10 I→T"]["mean"] == 12.34
    assert cells["Cutout", "R@10 I→T"]["std"] is None
    assert cells["Cutout", "R@10 I→T"]["best"] is True
    assert cells["Mixup", "Medr T→I"]["mean"] is None
    assert cells["Mixup", "Medr T→I"]["failed"] is True
    assert cells["MEM-3", "recovered %"]["n"] == 1


def test_empty_columns_and_rankings_are_made_as_newer_versions_of_pandas_ask() -> None:
    places = [("clean", "jpeg"), *((attack, defense) for attack in ("mem3", "em") for defense in ("none", "cutout"))]
    records = [record("clean", recalls=(50, 48)), *(record(*place) for place in places)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("2", "matrix"):
            assert render(make_tables(name, records), "markdown")


def test_an_unknown_format_says_what_exists() -> None:
    with pytest.raises(UsageError, match=", ".join(FORMATS)):
        render(table2(several()), "latx")


def test_the_paper_stands_beside_ours_with_the_difference() -> None:
    of_em = [record("em"), record("em", "cutout")]
    # The paper's Table 2 holds no EM: beside MEM-3 it has no table, and alone none of the paper's defenses is missing.
    tables = [make_tables("2", [*several(), record("mem3", "cutout+mixup"), *of_em], beside_paper=True)]
    tables += [make_tables("2", [record("clean"), *of_em], beside_paper=True)]
    mem, em = (lines_of(render([table], "markdown")) for (table,) in tables)
    assert mem["Defense"] == "R@10 I→T,paper,Δ,Medr I→T,paper,Δ,R@10 T→I,paper,Δ,Medr T→I,paper,Δ,seeds".split(",")
    assert mem["Clean"] == "56.0,46.5,+9.5,8.0,12,-4.0,50.0,42.7,+7.3,10,16,-6,1".split(",")
    assert mem["MEM-3"][:6] == ["10.5±0.7", "3.8", "+6.7", "152±2", "412", "-260"]
    assert mem["Mixup"][:3] == ["failed", "7.6", "–"]
    assert mem["Cutout + Mixup"][1:3] == ["–", "–"]
    assert em["EM"][1:3] == ["–", "–"]
    assert set(em) == {"Defense", ":--------", "Clean", "EM", "Cutout"}
    assert any("suspect" in note and "36.6" in note for note in tables[1][0].notes)


def test_an_attack_that_met_no_defense_has_no_table_beside_one_that_did() -> None:
    assert [table.keys["attack"] for table in table2([*several(), record("em")])] == ["mem3"]
    assert [table.keys["attack"] for table in table2([record("clean"), record("em"), record("mem3")])] == ["mem3", "em"]


def test_parameters_do_not_hide_the_papers_row() -> None:
    (table,) = table2([record("mem3", "cutout[size=0.3]")], beside_paper=True)
    assert lines_of(render([table], "markdown"))["cutout[size=0.3]"][1] == "3.9"


def test_the_papers_numbers_are_the_supplements() -> None:
    first = {row["attack"]: row for row in published(1)["rows"]}
    metrics = ("R@10 I→T", "R@10 T→I", "Medr I→T", "Medr T→I")
    assert {attack: tuple(row[metric] for metric in metrics) for attack, row in first.items()} == {
        "MEM-1": (4.3, 2.5, 376, 280),
        "MEM-3": (3.8, 2.2, 412, 308),
        "MEM-5": (3.9, 2, 445, 325),
        "MEM-7": (3.5, 2, 478, 337),
    }
    second = {(row["attack"], row["defense"]): row for row in published(2)["rows"]}
    metrics = ("R@10 I→T", "Medr I→T", "R@10 T→I", "Medr T→I")
    assert {key: tuple(row[metric] for metric in metrics) for key, row in second.items()} == {
        ("Clean", "none"): (46.5, 12, 42.7, 16),
        ("MEM-3", "none"): (3.8, 412, 2.2, 308),
        ("MEM-3", "adv-training"): (36.6, 48, 13.7, 80),
        ("MEM-3", "random-noise"): (3.6, 422, 2.5, 315),
        ("MEM-3", "mixup"): (7.6, 327, 5.6, 235),
        ("MEM-3", "cutout"): (3.9, 384, 2.7, 298),
        ("MEM-3", "random-insertion"): (3.6, 425, 2.5, 306),
        ("MEM-3", "random-deletion"): (3.6, 430, 2.5, 324),
        ("MEM-3", "random-swap"): (3.4, 417, 2.1, 322),
        ("MEM-3", "synonym-replacement"): (3.7, 399, 2.9, 298),
    }


@pytest.mark.parametrize(
    ("style", "both", "strongest"),
    [
        ("markdown", "**_12.3_**", "_7.0_"),
        ("latex", r"\textbf{\textit{12.3}}", r"\textit{7.0}"),
        ("html", "<strong><em>12.3</em></strong>", "<em>7.0</em>"),
    ],
)
def test_marks_brackets_intervals_and_words_of_a_cell(style: str, both: str, strongest: str) -> None:
    (table,) = table2(several())
    cells = table.cells[(table.cells["row"] == "Cutout") & table.cells["column"].str.contains("R@10|Medr")].iloc[:4]
    cells = cells.assign(
        best=[True, False, False, False], strongest=[True, False, True, False], counts=[True, False, True, True],
        low=[nan, 8.96, nan, nan], high=[nan, 10.04, nan, nan],
        text=pd.Series([None, None, None, "1–2 & more"], cells.index, dtype=object),
    )  # fmt: skip
    text = render([replace(table, cells=cells)], style)
    more = {"markdown": "1–2 & more", "latex": r"1--2 \& more", "html": "1–2 &amp; more"}[style]
    interval = "(9.5 {[}9.0, 10.0])" if style == "latex" else "(9.5 [9.0, 10.0])"
    for part in (both, strongest, interval, more):
        assert part in text, part


def test_computed_formats_hold_marks_and_intervals() -> None:
    (table,) = table2(several()[:2])
    marked = replace(table, cells=table.cells.assign(strongest=True, counts=False, low=1.5, high=2.5))
    frame = pd.read_csv(io.StringIO(render([marked], "csv")))
    assert frame["strongest"].all()
    assert not frame["counts"].any()
    assert (set(frame["low"]), set(frame["high"])) == ({1.5}, {2.5})
    assert json.loads(render([marked], "json"))[0]["cells"][0]["strongest"] is True

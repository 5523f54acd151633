"""The report is one whole page, says what the tables say, and loads nothing from elsewhere."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.figures import ArtifactPaths
from benchmark.grid.records import Record
from benchmark.report.page import report
from benchmark.report.summary import Passage, recovery, strength
from benchmark.tables import Table, make_tables
from benchmark.tables.chance import of_dataset
from benchmark.tables.render import shown
from tests.tables.factory import SCENES, record

VOID = {"meta", "link", "br", "img", "input", "hr"}
LOSS = [3.0] * 14


class Page(HTMLParser):
    """Elements, ids, attributes and the text of table cells and list points; unbalanced tags fail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.cells: list[list[list[str]]] = []
        self.sections: dict[str, str] = {}
        self.section = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = dict(attrs)["id"] or ""
        if tag == "table":
            self.cells.append([])
        if tag == "tr":
            self.cells[-1].append([])
        if tag in ("td", "th"):
            self.cells[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.sections[self.section] = self.sections.get(self.section, "") + data
        if {"td", "th"} & set(self.open):
            self.cells[-1][-1][-1] += data


def several() -> list[Record]:
    records = [record("clean", recalls=(r, r - 4), ranks=(8, 10), seed=s, loss=LOSS) for s, r in ((1, 56.0), (2, 50.0))]
    records += [record("mem3", recalls=(r, r - 1), seed=s, loss=LOSS) for s, r in ((1, 10.0), (2, 12.0))]
    records += [record("em", recalls=(52.3, 47.1), loss=LOSS), record("clean", "cutout", recalls=(44.4, 41))]
    records += [record("mem3", "cutout", recalls=(12.3, 9.9)), record("mem3", "prefix-drop", recalls=(51.7, 46.6))]
    failed = record("mem3", "mixup", failed="boom <script>alert(1)</script>")
    return [*records, dataclasses.replace(failed, provenance={"command": "<script>alert(2)</script>"})]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(report(several(), ArtifactPaths(Path("none"), Path("none"))))


def test_nothing_is_loaded_and_nothing_is_executed(page: Page) -> None:
    assert not {"script", "link", "iframe", "img", "object", "embed", "base", "form"} & set(page.tags)
    links = [value for _, name, value in page.attributes if name in ("href", "src", "xlink:href", "srcset", "action")]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in links)
    styles = [value for _, name, value in page.attributes if name == "style"]
    text = report(several(), ArtifactPaths(Path("none"), Path("none")))
    assert not re.search(r"https?:|@import|@font-face|javascript:", text)
    assert all(re.fullmatch(r"#[\w-]+", url) for url in re.findall(r"url\(([^)]*)\)", " ".join(styles)))


def test_ids_are_unique_and_references_have_their_target(page: Page) -> None:
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids)) > 100
    wanted = {value[1:] for _, name, value in page.attributes if name == "href"}
    wanted |= {url for _, _, value in page.attributes for url in re.findall(r"url\(#([\w-]+)\)", value)}
    assert wanted
    assert wanted <= set(ids)


def test_every_cell_of_every_table_is_the_tables_own(page: Page) -> None:
    names = ("2", "1", "controls", "cost")
    tables = [table for name in names for table in make_tables(name, several()) if table.keys.get("attack") != "em"]
    found = page.cells[: len(tables)]
    for table, (heads, *rows) in zip(tables, found, strict=True):
        expected = {(cell.row, cell.column): shown(cell) for cell in table.cells.itertuples(index=False)}
        assert heads[1 : 1 + len(table.columns)] == list(table.columns.values())
        assert [row[0] for row in rows] == list(table.rows)
        for row in rows:
            for column, value in zip(table.columns, row[1:], strict=False):
                assert value == expected.get((row[0], column), "–"), (table.title, row[0], column)


def recovered(table: Table) -> Passage:
    passage = recovery(table)
    assert passage is not None
    return passage


def test_the_summarys_numbers_are_cells_of_the_tables(page: Page) -> None:
    (table,) = [table for table in make_tables("2", several()) if table.keys["attack"] == "mem3"]
    (controls,) = make_tables("controls", several())
    cells = {shown(cell) for one in (table, controls) for cell in one.cells.itertuples(index=False)}
    passages = [strength(controls, None), recovered(table)]
    points = [text for one in passages for text in (one.text, *one.points)]
    numbers = [number for text in points for number in re.findall(r"(\S+) %", text)]
    assert len(numbers) >= 12
    assert set(numbers) <= cells
    for text in points:
        assert text in page.sections["summary"]


def test_the_summary_says_how_strong_the_poison_is_and_what_helps() -> None:
    (controls,) = make_tables("controls", several())
    text = strength(controls, of_dataset(SCENES))
    assert "53.0±4.2 % of queries from image to text and 49.0±4.2 %" in text.text
    mem, em = text.points
    assert mem.startswith("MEM-3: 11.0±1.4 %")
    assert "strong poison" in mem
    assert "weak poison" in em
    (table,) = [table for table in make_tables("2", several()) if table.keys["attack"] == "mem3"]
    passage = recovered(table)
    # Of seed 1: clean 54, attack 9.5, prefix-drop 49.15, cutout 11.1; clean under cutout 42.7.
    assert passage.text == (
        "On scenes with victim tiny, against MEM-3, Prefix drop is the strongest defense: it brings back 89.1 % of the "
        "lost recall."
    )
    assert passage.points == (
        "Prefix drop: 89.1 % back (1 seed); its price on clean data was not measured.",
        "Cutout: 3.6 % back (1 seed); a clean victim keeps 79.1 % under it (1 seed).",
    )


def test_defenses_against_a_harmless_attack_are_not_ranked() -> None:
    records = [
        record("clean", recalls=(50, 50)),
        record("em", recalls=(49, 49)),
        record("em", "cutout", recalls=(60, 60)),
    ]
    (table,) = make_tables("2", records)
    text = recovered(table).text
    assert text == "On scenes with victim tiny, EM takes too little recall for a defense to bring back."
    useless = [
        record("clean", recalls=(50, 50)),
        record("mem3", recalls=(5, 5)),
        record("mem3", "mixup", recalls=(6, 6)),
    ]
    assert "no defense brings back much" in recovered(make_tables("2", useless)[0]).text


@pytest.mark.parametrize(
    ("recall", "words"),
    [(16, "a strong poison"), (39, "a poison that is felt"), (41, "a weak poison"), (48, "hardly any effect")],
)
def test_a_poison_is_called_by_the_share_it_takes(recall: float, words: str) -> None:
    (controls,) = make_tables("controls", [record("clean", recalls=(50, 50)), record("em", recalls=(recall, recall))])
    assert f": {words}; " in strength(controls, None).points[0]


def test_below_nothing_is_nothing() -> None:
    """Neither a negative share of recall is lost, nor does a defense bring back less than nothing."""
    records = [record("clean", recalls=(50, 50)), record("em", recalls=(52, 52)), record("mem3", recalls=(5, 5))]
    (controls,) = make_tables("controls", records)
    (em,) = (point for point in strength(controls, None).points if point.startswith("EM: "))
    assert em.endswith("hardly any effect; nothing is lost (1 seed).")
    (table,) = make_tables("2", [*records, record("mem3", "mixup", recalls=(4, 4)), record("mem3", "cutout")])
    points = recovered(table).points
    assert points[1].startswith("Mixup: nothing back, -2.2 % (1 seed)")


def test_at_chance_nothing_is_judged() -> None:
    facts = {**SCENES, "test_images": 20, "test_captions": 100}  # where chance is 41.6 and 50.0
    records = [
        record("clean", recalls=(32.5, 52.0), facts=facts),
        record("mem3", recalls=(41.0, 50.0), facts=facts),
    ]
    (controls,) = make_tables("controls", records)
    passage = strength(controls, of_dataset(facts))
    assert "no better than chance" in passage.text
    assert "effect" not in passage.points[0]
    assert "no better than chance" not in strength(controls, of_dataset(SCENES)).text


def test_places_are_told_apart_and_clean_ones_are_not_left_out() -> None:
    records = [
        record("clean"),
        record("mem3", failed="boom"),
        record("clean", dataset="csv[train=a]", recalls=(33, 34)),
    ]
    text = Page(report(records, ArtifactPaths(Path("nowhere"), Path("nowhere"))))
    assert "On csv[train=a] with victim tiny" in text.sections["summary"]
    assert "33.0 %" in text.sections["summary"]
    assert "scenes, victim tiny: Failed: MEM-3 × None, seed 1." in text.sections["missing"]


def test_what_is_missing_is_said(page: Page) -> None:
    text = page.sections["missing"]
    for said in (
        "Not run: k=1, k=5, k=7", "Not run: Delta only", "Failed: MEM-3 × Mixup, seed 1",
        "No defense was tried against EM",
        "MEM-3 did not meet adv-training", "Fewer seeds: MEM-3 under", "(1 of 2)", "Table transfer", "Figure samples",
    ):  # fmt: skip
        assert said in text, said


def test_clean_victims_under_defenses_do_not_say_that_no_attack_ran() -> None:
    text = report([record("clean"), record("clean", "cutout"), record("mem3")], ArtifactPaths(Path(), Path()))
    assert "no attack was run" not in text
    assert "no attack was run" in report([record("clean"), record("clean", "cutout")], ArtifactPaths(Path(), Path()))


def test_of_several_surrogates_all_but_transfer_show_the_victims_own() -> None:
    records = [*several(), record("mem3", recalls=(33.3, 33.3), surrogate="RN50", seed=1)]
    page = Page(report(records, ArtifactPaths(Path("none"), Path("none"))))
    assert "all but Transfer show the poisons of surrogate tiny alone" in page.sections["missing"]
    assert "Transfer: MEM-3 from surrogates to victims" in page.sections["tables"]
    assert page.sections["tables"].count("33.3") == 2
    assert "MEM-3: 11.0±1.4 %" in page.sections["summary"]


def test_all_failed_or_none_at_all() -> None:
    text = report([record("mem3", failed="boom")], ArtifactPaths(Path("none"), Path("none")))
    assert "Failed: MEM-3 × None, seed 1" in Page(text).sections["missing"]
    with pytest.raises(UsageError, match="no records"):
        report([], ArtifactPaths(Path("none"), Path("none")))


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for one in several():
        one.save(tmp_path / "records")
    assert main(["report", "--records", str(tmp_path / "records"), "--out", str(tmp_path / "page.html")]) == 0
    assert "prefers-color-scheme: dark" in (tmp_path / "page.html").read_text("utf-8")
    assert main(["report", "--records", str(tmp_path / "nowhere"), "--out", str(tmp_path / "other.html")]) == 2
    assert "no folder of records" in capsys.readouterr().err
    assert not (tmp_path / "other.html").exists()

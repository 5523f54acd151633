"""The report is one whole page, says what the tables say, and loads nothing from elsewhere."""

import dataclasses
import hashlib
import re
from base64 import b64encode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.figures.sources import ArtifactPaths, _cell
from benchmark.grid.poison_store import PoisonStore
from benchmark.grid.records import Record
from benchmark.report.inline import inline_png
from benchmark.report.page import report
from benchmark.tables.make import make_tables
from benchmark.tables.render import shown
from tests.tables.factory import SCENES, record

VOID = {"meta", "link", "br", "img", "input", "hr"}
LOSS = [3.0] * 14
NOWHERE = ArtifactPaths(Path("none"), Path("none"))


class Page(HTMLParser):
    """Elements, ids, attributes, scripts and the text of cells and sections; unbalanced tags fail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.cells: list[list[list[str]]] = []
        self.sections: dict[str, str] = {}
        self.section = ""
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")
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
        if self.open[-1:] == ["script"]:
            self.scripts[-1] += data
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
def text() -> str:
    return report(several(), NOWHERE)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what a page says in words; ``text`` has all figures, which take seconds to draw."""
    monkeypatch.setattr("benchmark.report.page.FIGURES", {})


def attributes(page: Page, tag: str, name: str) -> list[str]:
    return [value for element, attribute, value in page.attributes if (element, attribute) == (tag, name)]


def test_nothing_is_loaded_and_only_the_pages_own_script_runs(page: Page, text: str) -> None:
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    loaded = [value for _, name, value in page.attributes if name in ("src", "xlink:href", "srcset", "action")]
    loaded += [value for tag, name, value in page.attributes if name == "href" and tag != "a"]
    assert all(value.startswith(("#", "data:image/")) for value in loaded)
    assert not re.search(r"@import|@font-face|javascript:", text)
    assert set(re.findall(r"https?://[^\"<\s]+", text)) == {"https://arxiv.org/abs/2407.16307"}
    urls = re.findall(r"url\(([^)]*)\)", text)
    assert urls
    assert all(re.fullmatch(r"#[\w-]+", url) for url in urls)
    # Browsers run the one script whose hash the page names, and nothing that a record may have brought in.
    (script,) = page.scripts
    (policy,) = (value for value in attributes(page, "meta", "content") if "default-src" in value)
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not any(name.startswith("on") for _, name, _ in page.attributes)


def test_ids_are_unique_and_references_have_their_target(page: Page) -> None:
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids)) > 20
    wanted = {value[1:] for _, name, value in page.attributes if name == "href" and value.startswith("#")}
    wanted |= {url for _, _, value in page.attributes for url in re.findall(r"url\(#([\w-]+)\)", value)}
    assert {"glance", "table-2", "table-matrix", "missing", "cite"} < wanted
    assert wanted <= set(ids)


def test_the_page_opens_with_the_matrix_as_figure_and_table(page: Page, text: str) -> None:
    parts = ('aria-label="Recall kept', "<table>", 'aria-label="Share of the lost', 'id="table-2"')
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.count('id="table-matrix"') == 1
    assert "Ranking of defenses" in page.sections["glance"]
    assert list(page.sections) == ["", "glance", "tables", "figures", "missing", "provenance", "cite"]


def test_terms_are_explained_and_the_paper_is_named(page: Page, text: str) -> None:
    terms = re.findall(r"<dfn>(.*?)</dfn>", text)
    assert len(terms) == len(set(terms))
    assert {"victim", "surrogate", "trigger", "recov.", "EM", "MEM-k", "R@10", "Medr", "kept", "lost"} <= set(terms)
    assert text.index("<dfn>victim") < text.index("<table>")
    assert "2407.16307" in page.sections["cite"]
    assert "@software{unlearnable_bench" in page.sections["cite"]


def test_every_cell_of_every_table_is_the_tables_own(page: Page) -> None:
    names = ("matrix", "2", "attacks", "1", "cost")
    tables = [table for name in names for table in make_tables(name, several()) if table.keys.get("attack") != "em"]
    assert len(page.cells) >= len(tables) > 4
    for table, (heads, *rows) in zip(tables, page.cells, strict=False):
        expected = {(cell.row, cell.column): shown(cell) for cell in table.cells.itertuples(index=False)}
        assert heads[1 : 1 + len(table.columns)] == list(table.columns.values())
        assert [row[0] for row in rows] == list(table.rows)
        for row in rows:
            assert len(row) > len(table.columns)
            for column, value in zip(table.columns, row[1:], strict=False):
                assert value == expected.get((row[0], column), "–"), (table.title, row[0], column)


def test_what_may_be_wider_than_the_page_can_be_scrolled_and_says_so(text: str) -> None:
    """Every table, figure and listing lies in a frame, which shows a hint while something is cut."""
    wide = len(re.findall(r"<table>|<pre>|<svg |<img ", text))
    assert len(re.findall(r"<div class=\"?scroll\"?>\s*(?:<table>|<pre>|<svg |<img )", text)) == wide
    assert len(re.findall(r"<div class=\"?frame\"?>", text)) == wide


def test_figures_are_told_apart_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.report.page.FIGURES", {"defenses": "What each defense recovers."})
    page = Page(report([*several(), record("em", "cutout", recalls=(53, 48))], NOWHERE))
    names = attributes(page, "svg", "aria-label") + attributes(page, "img", "alt")
    assert {name.partition(" on ")[0].rpartition(" ")[2] for name in names} == {"MEM-3", "EM"}
    assert all(name.startswith("What each defense recovers. ") for name in names)


def test_on_paper_nothing_is_cut_off_or_closed(page: Page, text: str) -> None:
    rules = text[text.index("@media print {") : text.index("</style>")]
    assert ".scroll { overflow: visible; }" in rules
    assert "svg, img { max-width: 100%; }" in rules
    assert re.search(r'addEventListener\("beforeprint", [^;]*"details"\)\) details.open = true', page.scripts[0])


@pytest.mark.usefixtures("no_figures")
def test_at_chance_nothing_is_ranked_and_the_page_says_so(text: str) -> None:
    facts = {**SCENES, "test_images": 20, "test_captions": 100}  # where chance is 41.6 and 50.0
    levels = (("clean", "none", 42.0), ("mem3", "none", 20.0), ("mem3", "cutout", 40.0))
    near = report([record(attack, defense, recalls=(r, r), facts=facts) for attack, defense, r in levels], NOWHERE)
    assert '<p class="warning">On scenes: near chance: victim tiny has learned next to nothing' in near
    assert "<strong>" not in near
    assert 'class="warning"' not in text


@pytest.mark.usefixtures("no_figures")
def test_a_defense_of_the_paper_is_met_with_any_parameters() -> None:
    text = report([*several(), record("mem3", "adv-training[eps=4]", recalls=(20, 20))], NOWHERE)
    (line,) = re.findall(r"MEM-3 did not meet [^.]*", text)
    assert "adv-training" not in line
    assert "cutout" not in line
    assert "random-noise" in line


@pytest.mark.usefixtures("no_figures")
def test_an_attack_without_an_undefended_victim_is_told_in_words() -> None:
    text = report([*several(), record("mem7", "cutout", recalls=(20, 20))], NOWHERE)
    assert "MEM-7 was not run without a defense." in text
    (line,) = re.findall(r"MEM-7 did not meet [^.]*", text)
    assert "none" not in line


def test_what_is_missing_is_said(page: Page) -> None:
    text = page.sections["missing"]
    for said in (
        "Not run: k=1, k=5, k=7", "Not run: Delta only", "Failed: MEM-3 × Mixup, seed 1",
        "No defense was tried against EM",
        "MEM-3 did not meet adv-training", "Fewer seeds: MEM-3 × ", "(1 of 2)", "Table transfer", "Figure samples",
    ):  # fmt: skip
        assert said in text, said


@pytest.mark.usefixtures("no_figures")
def test_places_are_told_apart() -> None:
    records = [
        record("clean"),
        record("mem3", failed="boom"),
        record("clean", dataset="csv[train=a]", recalls=(33, 34)),
    ]
    text = Page(report(records, NOWHERE))
    assert "scenes, victim tiny: Failed: MEM-3 × None, seed 1: boom." in text.sections["missing"]


@pytest.mark.usefixtures("no_figures")
def test_a_failed_cell_that_was_mended_is_not_missing() -> None:
    records = [*several(), record("clean", failed="no such tile")]
    assert "no such tile" not in Page(report(records, NOWHERE)).sections["missing"]


@pytest.mark.usefixtures("no_figures")
def test_of_several_surrogates_all_but_transfer_show_the_victims_own() -> None:
    records = [*several(), record("mem3", recalls=(33.3, 33.3), surrogate="RN50", seed=1)]
    page = Page(report(records, NOWHERE))
    assert "all but Transfer show the poisons of surrogate tiny alone" in page.sections["missing"]
    assert "Transfer: MEM-3 from surrogates to victims" in page.sections["tables"]
    assert page.sections["tables"].count("33.3") == 2


def test_all_failed_or_none_at_all() -> None:
    text = report([record("mem3", failed="boom")], NOWHERE)
    assert "Failed: MEM-3 × None, seed 1" in Page(text).sections["missing"]
    assert "figures" not in Page(text).sections  # nor is there a link to it
    assert "#figures" not in text
    with pytest.raises(UsageError, match="no records"):
        report([], NOWHERE)


def test_a_large_bitmap_is_made_smaller() -> None:
    noise = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)).save(noise, "PNG")
    element = inline_png(noise.getvalue(), "a <noise>", 300)
    assert element.startswith('<img src="data:image/webp;base64,')
    assert 'alt="a &lt;noise&gt;"' in element
    assert len(element) < len(noise.getvalue())


def test_the_command_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmark.report.page.FIGURES", {"curves": "how victims learn"})
    for one in several():
        one.save(tmp_path / "records")
    assert main(["report", "--records", str(tmp_path / "records"), "--out", str(tmp_path / "page.html")]) == 0
    assert "prefers-color-scheme: dark" in (tmp_path / "page.html").read_text("utf-8")
    assert main(["report", "--records", str(tmp_path / "nowhere"), "--out", str(tmp_path / "other.html")]) == 2
    assert "no folder of records" in capsys.readouterr().err
    assert not (tmp_path / "other.html").exists()


@pytest.mark.usefixtures("no_figures")
def test_only_victims_that_were_trained_are_counted(page: Page) -> None:
    assert "8 trained victims (1 more failed)" in page.sections[""]
    assert "8 trained victims;" in Page(report(several()[:8], NOWHERE)).sections[""]


def test_undefended_records_make_a_page_without_table_2_that_explains_its_terms() -> None:
    page = Page(report([record("clean", recalls=(90, 90)), record("mem3")], NOWHERE))
    ids = {value for _, name, value in page.attributes if name == "id"}
    assert {value[1:] for _, name, value in page.attributes if name == "href" and value.startswith("#")} <= ids
    assert "table-2" not in ids
    assert "victim is a CLIP model" in page.sections["glance"].replace("\n", " ")
    assert "Table 2: these records hold no attack that met a defense." in page.sections["missing"]


@pytest.mark.usefixtures("no_figures")
def test_what_is_missing_names_the_attack_and_says_it_once() -> None:
    records = [record(attack) for attack in ("clean", "mem3", "em")]
    text = Page(report([*records, record("mem3", "cutout"), record("em", "jpeg")], NOWHERE)).sections["missing"]
    assert "MEM-3 did not meet adv-training" in text
    assert "EM did not meet adv-training" in text
    assert "Table 2: MEM-3" not in text


def test_samples_of_a_plugins_attack_ask_for_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.report.page.FIGURES", {"samples": "what is published"})
    facts = {**SCENES, "fingerprint": "0" * 64}
    clean, *own = [record(*cell, facts=facts) for cell in (("clean", "none"), ("mem3", "none"), ("mem3", "cutout"))]
    assert "Figure samples: the poisons are not at hand" in Page(report([clean, *own], NOWHERE)).sections["missing"]
    theirs = [dataclasses.replace(one, attack=dataclasses.replace(one.attack, spec="theirs")) for one in own]
    text = Page(report([clean, *theirs], NOWHERE)).sections["missing"]
    assert "Figure samples: attack theirs is not known here; --plugin names the file it comes from" in text


def test_the_file_of_a_damaged_poison_is_not_named_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmark.report.page.FIGURES", {"samples": "what is published"})
    one = record("mem3", facts={**SCENES, "fingerprint": "0" * 64})
    damaged = PoisonStore(tmp_path).path(_cell(one), "0" * 64)
    damaged.touch()
    text = report([one], ArtifactPaths(tmp_path, Path("none")))
    assert "Figure samples: a poison cannot be used." in Page(text).sections["missing"]
    assert damaged.name not in text
    assert str(damaged) in capsys.readouterr().err


def test_the_first_and_the_last_end_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.report.page.FIGURES", {})
    days = {"clean": 20, "em": 27, "mem3": 13}
    records = [
        dataclasses.replace(record(attack), provenance={"finished": f"2026-11-{day}"}) for attack, day in days.items()
    ]
    said = Page(report(records, NOWHERE)).sections["provenance"]
    assert "Runs finished between 2026-11-13 and 2026-11-27." in said

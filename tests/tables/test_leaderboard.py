"""The leaderboard: entries in, ranks out, and nothing in an entry becomes anything but text."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.core.locks import claimed
from benchmark.submission.page import PAGE, leaderboard_page, publish
from benchmark.tables.entries import Entry, Kind, RerunCell, load_entries
from benchmark.tables.leaderboard import leaderboard
from benchmark.tables.render import render
from tests.tables.factory import entry

# Undone by one defense; never undone; the same, a little weaker.
FRAGILE = entry("fragile", {"none": [2, 2, 2], "cutout": [2, 2, 2], "mixup": [2, 2, 2], "prefix-drop": [78, 79, 80]})
TOUGH = entry(
    "tough", {"none": [20, 20, 20], "cutout": [30, 31, 32], "mixup": [24, 24, 24], "prefix-drop": [20, 20, 20]}
)
LIKE_IT = entry(
    "like-it", {"none": [20, 20, 20], "cutout": [30, 32, 31.5], "mixup": [8, 8, 8], "prefix-drop": [8, 8, 8]}
)


def cell(entries: Sequence[Entry], row: str, column: str, kind: int = 0) -> Any:
    cells = leaderboard(entries)[kind].cells
    (found,) = cells[(cells["row"] == row) & (cells["column"] == column)].itertuples()
    return found


def test_attacks_are_ranked_by_their_worst_defense() -> None:
    entries = [FRAGILE, TOUGH, LIKE_IT]
    (table,) = leaderboard(entries)
    assert table.rows == ("Tough", "Like-It", "Fragile")
    # Kept of 80: by hand.
    assert cell(entries, "Tough", "worst case %").mean == pytest.approx(100 * 31 / 80)
    assert cell(entries, "Fragile", "worst case %").mean == pytest.approx(100 * 79 / 80)
    assert cell(entries, "Fragile", "under").text == "prefix-drop"
    assert cell(entries, "Tough", "no defense %").mean == 25
    counts = {column: cell(entries, "Tough", column).n for column in ("worst case %", "no defense %", "IQM %")}
    assert counts == {"worst case %": 3, "no defense %": 3, "IQM %": 12}
    # Of twelve runs the middle six: half of Fragile's runs cannot move its interquartile mean.
    assert cell(entries, "Fragile", "IQM %").mean == pytest.approx(2.5)
    # The first two cannot be told apart by three seeds and 1,000 queries.
    assert [cell(entries, row, "rank").text for row in table.rows] == ["1–2", "1–2", "3"]


@pytest.mark.parametrize(("kind", "sign", "said"), [("attack", 1, "too high"), ("defense", -1, "too low")])
def test_a_worst_case_among_equals_reads_too_bad_and_the_page_says_so(kind: Kind, sign: int, said: str) -> None:
    generator, found = np.random.default_rng(1), []
    for _ in range(15):
        recalls = {f"case{number}": generator.normal(48, 4, 3).tolist() for number in range(16)}  # 60 % of 80
        one = entry("one", {"none" if kind == "attack" else "clean": [48, 48, 48], **recalls}, kind)
        found.append(cell([one], "One", "worst case %").mean)
    assert sign * (np.mean(found) - 60) > 3
    assert any(said in note for note in leaderboard([one])[0].notes)


def test_rows_are_in_the_order_of_their_ranks() -> None:
    # Over the three seeds that both have, Three is stronger; over all of its own, Twelve is.
    twelve = entry("twelve", {"none": [30, 31, 32, *[1] * 9], "jpeg": [2] * 12})
    three = entry("three", {"none": [15, 16, 17], "jpeg": [2] * 3})
    (table,) = leaderboard([twelve, three])
    assert table.rows == ("Three", "Twelve")
    assert [cell([twelve, three], row, "rank").text for row in table.rows] == ["1", "2"]


@pytest.mark.parametrize("rest", [31, 5])
def test_ranks_count_only_the_seeds_that_all_entries_have(rest: int) -> None:
    """Else who sends more seeds could choose the number that looks best."""
    few = entry("few", {"none": [40, 41, 42]})
    many = entry("many", {"none": [20, 21, 22, *[21] * 9]})
    more = entry("more", {"none": [30, 31, 32, *[rest] * 9]})
    entries = [few, many, more]
    assert [cell(entries, row, "rank").text for row in ("Many", "More", "Few")] == ["1", "2", "3"]


def test_no_defense_may_be_the_worst_case() -> None:
    weak = entry("weak", {"none": [70, 70, 70], "mixup": [40, 40, 40]})
    assert cell([weak], "Weak", "under").text == "none"


def test_defenses_are_ranked_by_the_attack_that_leaves_least_and_clean_data_are_their_cost() -> None:
    good = entry("good", {"clean": [40, 40, 40], "mem3": [60, 60, 60], "em": [72, 72, 72]}, "defense")
    bad = entry("bad", {"clean": [4, 4, 4], "mem3": [80, 80, 80], "em": [8, 8, 8]}, "defense")
    entries = [bad, good, TOUGH]
    attacks, defenses = leaderboard(entries)
    assert (attacks.rows, defenses.rows) == (("Tough",), ("Good", "Bad"))
    assert cell(entries, "Bad", "against", 1).text == "em"
    assert cell(entries, "Bad", "worst case %", 1).mean == 10
    assert cell(entries, "Good", "clean data %", 1).mean == 50
    assert [cell(entries, row, "rank", 1).text for row in defenses.rows] == ["1", "2"]
    assert cell(entries, "Good", "train s", 1).mean == 20


def test_how_a_cell_was_run_again_is_said() -> None:
    again = RerunCell("tough × none, seed 1", 25.0, 25.0, 25.0, 25.0, 7, "given", "cpu")
    elsewhere = replace(again, found=26.0, low=23.0, high=27.5)
    entries = [FRAGILE, replace(TOUGH, rerun=again), replace(LIKE_IT, rerun=elsewhere)]
    assert [cell(entries, row, "re-run").text for row in ("Fragile", "Tough", "Like-It")] == [
        "no",
        "equal",
        "within 23–28 %",
    ]
    notes = " ".join(leaderboard(entries)[0].notes)
    assert "re-run of tough × none, seed 1: 26.0 for 25.0 (accepted 23.0 to 27.5), drawn by 7 (given)" in notes


def test_what_was_not_run_is_said() -> None:
    (table,) = leaderboard([replace(TOUGH, plugin="not run")])
    assert "its own code was not run" in table.notes[-1]


def test_entries_of_other_rules_are_not_compared() -> None:
    newer = replace(TOUGH, rules=TOUGH.rules + 1)
    new, old = leaderboard([TOUGH, newer])
    assert [table.cells[table.cells["column"] == "rank"]["text"].tolist() for table in (new, old)] == [["1"], ["1"]]
    assert new.title.endswith(f"rules {TOUGH.rules + 1}")
    assert old.title.endswith(f"rules {TOUGH.rules}")


def test_without_entries_there_is_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "leaderboard", "--records", str(tmp_path)]) == 2
    assert "docs/submitting.md" in capsys.readouterr().err
    assert main(["table", "leaderboard", "--records", str(tmp_path / "typo")]) == 2
    assert f"no folder of entries at {tmp_path}/typo" in capsys.readouterr().err


def test_the_command_prints_what_the_page_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for one in (FRAGILE, TOUGH):
        one.save(tmp_path)
    assert main(["table", "leaderboard", "--records", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed == render(leaderboard(load_entries(tmp_path)), "markdown") + "\n"
    assert leaderboard_page(load_entries(tmp_path)).endswith(printed)
    for style in ("csv", "json", "html", "latex"):
        assert main(["table", "leaderboard", "--records", str(tmp_path), "--format", style]) == 0
    assert main(["table", "leaderboard", "--records", str(tmp_path), "--beside", "paper"]) == 2


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](https://evil.example)",
    "![x](https://evil.example/x.png)",
    "[click][1]",
    "<https://evil.example>",
    "a | b | c",
    "a \\| b \\",
    "**bold** *it* `code`",
    "_it_ __bold__ ~~gone~~ ~gone~",
    "&lt;b&gt; &amp;",
    "x" * 115 + " # heading",
    "x" * 115 + " - item",
    "x" * 115 + " > quote",
    "x" * 115 + " ~~~ fence",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_others_stays_text_on_the_page(text: str) -> None:
    """Against a Markdown parser with tables and HTML."""
    hostile = replace(TOUGH.about, title=text[:100], authors=text[:100], licence=text[:100], notes=text * 2)
    page = leaderboard_page([replace(TOUGH, about=hostile), FRAGILE])
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = parser.parse(page)
    inside = [child for token in tokens for child in (token.children or [])]
    plain = parser.parse(leaderboard_page([TOUGH, FRAGILE]))
    kinds = {token.type for token in plain} | {child.type for token in plain for child in (token.children or [])}
    assert {token.type for token in [*tokens, *inside]} <= kinds | {"text_special"}
    assert [child.attrs for child in inside if child.type == "link_open"] == [{"href": "../../docs/submitting.md"}]
    cells = [len([t for t in tokens if t.type == "td_open"]), len([t for t in tokens if t.type == "tr_open"])]
    assert cells == [len([t for t in plain if t.type == "td_open"]), len([t for t in plain if t.type == "tr_open"])]


def test_entries_survive_a_file(tmp_path: Path) -> None:
    again = RerunCell("tough × none, seed 1", 25.0, 25.0, 25.0, 25.0, 7, "given", "cpu")
    whole = replace(TOUGH, rerun=again)
    assert Entry.load(whole.save(tmp_path)) == whole


def damaged(**fields: Any) -> Any:
    def change(content: dict[str, Any]) -> None:
        content.update(fields)

    return change


DAMAGES = {
    "an unknown field": (damaged(rank=1), "unknown field 'rank'"),
    "a recall above 100": (damaged(recall={"none": {"1": 101}, "cutout": {"1": 3}}), "recall"),
    "a seed without a clean victim": (
        damaged(recall={"none": {"4": 1}, "cutout": {"1": 3}}),
        "recall.none: seed '4' has no clean victim",
    ),
    "a clean victim of nothing": (damaged(clean={"1": 0, "2": 80, "3": 80}), "clean"),
    "no undefended victims": (damaged(recall={"mixup": {"1": 1}, "cutout": {"1": 3}}), "needs none"),
    "a cell of nothing": (damaged(recall={"none": {}, "cutout": {"1": 3}}), "recall.none: no seed"),
    "another's name": (lambda content: content["about"].update(name="other"), "it is the entry of other"),
    "a terminal's code": (lambda content: content["about"].update(title="\x1b[31mred"), "title"),
    "a link to code": (lambda content: content["about"].update(link="javascript:alert(1)"), "link"),
    "a day that is none": (damaged(accepted="<b>"), "accepted"),
    "a day that no month has": (damaged(accepted="9999-99-99"), "accepted: 9999-99-99 is no day: month"),
    "a seed in two spellings": (damaged(clean={"1": 80, "01": 80, "2": 80, "3": 80}), "clean"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_named(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = TOUGH.save(tmp_path)
    content = json.loads(path.read_text("utf-8"))
    change, said = DAMAGES[damage]
    change(content)
    path.write_text(json.dumps(content), "utf-8")
    assert main(["table", "leaderboard", "--records", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "tough.json is not a readable entry" in line
    assert said in line


def test_infinity_is_no_number_and_cannot_be_saved(tmp_path: Path) -> None:
    path = TOUGH.save(tmp_path)
    path.write_text(path.read_text("utf-8").replace("33.0", "Infinity"), "utf-8")
    with pytest.raises(UsageError, match="Infinity where a number belongs"):
        load_entries(tmp_path)
    with pytest.raises(UsageError, match="cannot be saved as an entry"):
        replace(TOUGH, poison={"psnr": float("inf")}).save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_page_has_the_entries_of_two_that_publish_at_once(tmp_path: Path) -> None:
    """Who comes second waits for the first, and then reads its entry, too."""
    with ThreadPoolExecutor() as pool:
        with claimed(tmp_path / PAGE, wait=True):
            second = pool.submit(publish, TOUGH, tmp_path, update=False)
            with pytest.raises(TimeoutError):
                second.result(timeout=0.5)
            assert not (tmp_path / "tough.json").exists()
            FRAGILE.save(tmp_path)
        assert second.result(timeout=60) == tmp_path / "tough.json"
    assert (tmp_path / PAGE).read_text("utf-8") == leaderboard_page([FRAGILE, TOUGH])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(FRAGILE, about=TOUGH.about), "exists; --update"),
        (replace(FRAGILE, scores="ab"), "of the entry fragile"),
    ],
)
def test_who_publishes_second_replaces_and_repeats_nothing(other: Entry, said: str, tmp_path: Path) -> None:
    """Both were checked while the folder had neither entry."""
    file = other.save(tmp_path)
    before = file.read_bytes()
    with pytest.raises(UsageError, match=said):
        publish(replace(TOUGH, scores="ab"), tmp_path, update=False)
    assert [*tmp_path.glob("*.json")] == [file]
    assert file.read_bytes() == before


def test_seeds_are_not_left_out_of_a_worst_case() -> None:
    """Else one more bad seed would cost a submission nothing."""
    none = [20, 20, 20, 20, 20]
    entries = [entry("wild", {"none": none, "mixup": [24, 24, 24, 24, 72]}), entry("tame", {"none": none})]
    assert cell(entries, "Wild", "worst case %").mean == pytest.approx(100 * 33.6 / 80)
    assert leaderboard(entries)[0].rows == ("Tame", "Wild")


@pytest.mark.parametrize(("per_seed", "sets"), [(True, [1, 2, 3]), (False, [0, 0, 0])])
def test_seeds_share_test_images_unless_each_has_its_own(per_seed: bool, sets: list[int]) -> None:
    cells = replace(TOUGH, per_seed=per_seed).runs().values()
    assert [[cell[seed].test_set for seed in (1, 2, 3)] for cell in cells] == [sets] * 4

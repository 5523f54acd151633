"""Lengths, defenses and triggers: the numbers drawn are the records'."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.typing import ColorType

from benchmark.core.errors import UsageError
from benchmark.figures.curves import curves
from benchmark.figures.defenses import defenses
from benchmark.figures.lengths import lengths
from benchmark.figures.matrix import matrix
from benchmark.figures.triggers import shares, triggers
from tests.tables.factory import SCENES, record


def points(drawn: Line2D) -> tuple[list[float], list[float]]:
    return np.asarray(drawn.get_xdata()).tolist(), np.asarray(drawn.get_ydata()).tolist()


def line(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    return points(next(line for line in axes.lines if line.get_label() == label))


def bars(axes: Axes) -> dict[str, float]:
    names = axes.yaxis.get_major_formatter().format_ticks(axes.yaxis.get_majorticklocs().tolist())
    widths = (bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle))
    return dict(zip(names, map(float, widths), strict=True))


def whiskers(axes: Axes) -> list[list[list[float]]]:
    drawn = axes.collections[0]
    assert isinstance(drawn, LineCollection)
    return [np.asarray(segment).tolist() for segment in drawn.get_segments() if len(segment)]


def test_recall_over_k_with_the_papers_line_and_clean_levels() -> None:
    records = [record("clean", recalls=(56, 50)), record("em", recalls=(45, 44)), record("mem7", recalls=(3, 2))]
    records += [record("mem3", recalls=(value, 8.0), seed=seed) for seed, value in enumerate((10.0, 14.0), start=1)]
    records += [record("mem3", "cutout", recalls=(99, 99)), record("trigger-only", recalls=(77, 77))]
    text, image = lengths(records)["lengths"].axes
    (container,) = text.containers
    assert isinstance(container, ErrorbarContainer)
    assert points(container.lines[0]) == ([0, 3, 7], [45, 12, 3])
    # Standard deviation of 10 and 14: 2·√2; single seeds have none.
    (bar,) = whiskers(text)
    assert bar == [[3, pytest.approx(12 - 8**0.5)], [3, pytest.approx(12 + 8**0.5)]]
    assert line(text, "paper") == ([1, 3, 5, 7], [4.3, 3.8, 3.9, 3.5])
    assert line(image, "paper") == ([1, 3, 5, 7], [2.5, 2.2, 2, 2])
    assert line(text, "ours, clean data")[1] == [56, 56]
    assert line(image, "ours, clean data")[1] == [50, 50]
    assert line(image, "paper, clean data")[1] == [42.7, 42.7]
    with pytest.raises(UsageError, match="no undefended em or mem"):
        lengths(records[:1])


def test_no_line_joins_lengths_of_different_budgets() -> None:
    records = [record("clean", recalls=(56, 50)), record("em", recalls=(45, 44), params={"rounds": 80})]
    records += [record("mem3", recalls=(12, 8)), record("mem7", recalls=(3, 2))]
    for axes in lengths(records)["lengths"].axes:
        drawn = [points(one.lines[0])[0] for one in axes.containers if isinstance(one, ErrorbarContainer)]
        assert drawn == [[3, 7], [0]]


def test_a_recall_of_zero_has_its_place() -> None:
    records = [record("clean", recalls=(56, 50)), record("mem1", recalls=(4, 3)), record("mem3", recalls=(2, 0))]
    for shown, scale in ((records, "linear"), (records[:2], "log")):
        figure = lengths(shown)["lengths"]
        for axes in figure.axes:
            assert axes.get_yscale() == scale
            (drawn, *_) = (one for one in axes.containers if isinstance(one, ErrorbarContainer))
            assert min(points(drawn.lines[0])[1]) > axes.get_ylim()[0]
        assert ("log scale" in figure.axes[0].get_ylabel()) == (scale == "log")


def test_recall_under_each_defense_between_its_reference_lines() -> None:
    records = [record("clean", recalls=(56, 50)), record("mem3", recalls=(10, 8))]
    records += [record("mem3", "cutout", recalls=(value, 7), seed=seed) for seed, value in ((1, 12.0), (2, 16.0))]
    records += [record("mem3", "prefix-drop", recalls=(52, 48)), record("mem3", "mixup", failed="boom")]
    scattered = [record("mem3", "jpeg", seed=seed) for seed in (1, 3, 5, 7, 9)]
    assert "JPEG, n=5" in bars(defenses([*records, *scattered])["defenses-mem3"].axes[0])
    shares, text, image = defenses(records)["defenses-mem3"].axes
    names = list(bars(shares))
    assert "Mixup, failed" in names
    found = dict(zip(names, bars(text).values(), strict=True))
    assert {name: value for name, value in found.items() if not np.isnan(value)} == {
        "Cutout, seeds 1–2": 14.0, "Prefix drop, seed 1": 52.0,
    }  # fmt: skip
    assert list(bars(image).values())[-1] == 48
    # Single seeds as dots, where there are several.
    assert line(text, "one seed") == ([12, 16], [names.index("Cutout, seeds 1–2")] * 2)
    assert line(text, "clean data")[0] == [56, 56]
    assert line(image, "no defense")[0] == [8, 8]
    # All that the paper has, run here or not; it has no prefix-drop.
    values, places = line(text, "paper, same defense")
    paper = dict(zip(names, values, strict=True))
    assert (paper["Mixup, failed"], paper["Cutout, seeds 1–2"], paper["Adv training, not run"]) == (7.6, 3.9, 36.6)
    assert np.isnan(paper["Prefix drop, seed 1"])
    assert list(places) == list(range(9))
    assert text.yaxis_inverted()
    assert text.get_xlim() == image.get_xlim()
    assert text.get_xlim()[1] > 56
    with pytest.raises(UsageError, match="no attack that met a defense"):
        defenses(records[:2])


def test_the_recovered_share_has_whiskers_of_pairs() -> None:
    """Clean victims that differ by 30 points, of which a defense brings back 90 and 100 %."""
    records = []
    for seed, clean, back in ((1, 40.0, 37.0), (2, 70.0, 70.0)):
        records += [record("clean", recalls=(clean, clean), seed=seed), record("mem3", recalls=(10, 10), seed=seed)]
        records.append(record("mem3", "cutout", recalls=(back, back), seed=seed))
    shares, *_ = defenses(records)["defenses-mem3"].axes
    # 27 + 60 of 30 + 60, residuals of 27 - R 30 and 60 - R 60 over the mean loss of 45.
    ratio = 87 / 90
    residuals = [(27 - ratio * 30) / 45, (60 - ratio * 60) / 45]
    deviation = 100 * np.std(residuals, ddof=1)
    names = list(bars(shares))
    assert bars(shares)["Cutout"] == pytest.approx(100 * ratio)
    (whisker,) = whiskers(shares)
    assert [point[0] for point in whisker] == [
        pytest.approx(100 * ratio - deviation),
        pytest.approx(100 * ratio + deviation),
    ]
    # Of the paper's 46.5 / 42.7 and 3.8 / 2.2, cutout leaves 3.9 / 2.7.
    paper = dict(zip(names, line(shares, "paper, same defense")[0], strict=True))
    assert paper["Cutout"] == pytest.approx(100 * (3.9 + 2.7 - 6.0) / (46.5 + 42.7 - 6.0))


def test_the_paper_is_named_where_it_is_drawn() -> None:
    """The paper has MEM-3 under defenses, and no EM, which is drawn all the same."""
    figures = defenses([record(attack, defense) for attack in ("mem3", "em") for defense in ("none", "cutout")])
    for attack, named in (("mem3", True), ("em", False)):
        figure = figures[f"defenses-{attack}"]
        assert ("Flickr30K" in figure.get_suptitle()) == named
        assert any("paper" in text.get_text() for text in figure.legends[0].get_texts()) == named


def test_without_a_clean_victim_there_is_no_share() -> None:
    figure = defenses([record("mem3"), record("mem3", "cutout")])["defenses-mem3"]
    assert [axes.get_title() for axes in figure.axes] == ["I→T", "T→I"]


def test_the_matrix_shows_the_tables_cells_marks_and_ranks() -> None:
    records = [record("clean", recalls=(50, 50)), record("clean", "cutout", recalls=(40, 40))]
    records += [record("mem3", recalls=(10, 10)), record("mem3", "cutout", recalls=(12, 12))]
    records += [record("mem3", "prefix-drop", recalls=(48, 48)), record("em", recalls=(25, 25))]
    records += [record("em", "cutout", recalls=(30, 30))]
    (axes,) = matrix(records)["matrix"].axes
    texts = {text.get_text(): (text.get_fontweight(), text.get_fontstyle()) for text in axes.texts}
    plain, bold, italic = ("normal", "normal"), ("bold", "normal"), ("normal", "italic")
    # Ranked over what both attacks met: no defense and cutout.
    assert texts == {
        "20.0": italic, "24.0": italic, "96.0": bold, "50.0": plain, "60.0": bold, "100.0": plain, "80.0": plain,
        "rank": plain, "1": plain, "2": plain,
    }  # fmt: skip
    assert [label.get_text() for label in axes.get_yticklabels()] == ["MEM-3", "EM", "Clean data"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["No\ndefense", "Cutout", "Prefix\ndrop"]
    rectangles = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    for marks, look in (
        ("bold", [patch for patch in rectangles if patch.get_linewidth() > 1.5]),
        ("italic", [patch for patch in rectangles if patch.get_linestyle() == "--"]),
    ):
        marked = [text for text in axes.texts if marks in (text.get_fontweight(), text.get_fontstyle())]
        assert len(marked) == len(look) == 2
        assert all(any(frame.get_bbox().contains(*text.get_position()) for frame in look) for text in marked)


@pytest.mark.parametrize("count", [4, 12, 30])
def test_numbers_of_neighbouring_cells_do_not_run_into_each_other(count: int) -> None:
    names = ["none", *(f"defense-{number}" for number in range(count))]
    recalls = (("clean", 80.0), ("mem3", 80.1), ("em", 80.2))
    records = [
        record(attack, name, recalls=(r + 10 * seed, r + 10 * seed), seed=seed, loss=[1.0], recipe={"batch_size": 64})
        for attack, r in recalls
        for name in names
        for seed in (-1, 0, 1)
    ]
    figure = matrix(records)["matrix"]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    # Each as wide as a number gets: two lines of five characters.
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts if "±" in text.get_text()]
    assert len(boxes) == len(recalls) * len(names)
    assert not [1 for number, one in enumerate(boxes) for other in boxes[:number] if one.overlaps(other)]


def test_long_names_of_attacks_stay_within_the_matrix_and_their_rows() -> None:
    parameters = ",".join(f"parameter_{number}={number}" for number in range(12))
    records = [record("clean", defense) for defense in ("none", "jpeg")]
    for k in range(20):
        records += [record(f"mem3[k={k},{parameters}]", one, params={"k": k}) for one in ("none", "jpeg")]
    figure = matrix(records)["matrix"]
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a layout that was given up
        canvas.draw()
    (axes,) = figure.axes
    names = axes.get_yticklabels()
    assert len(names) == 21
    for label in names:
        assert label.get_window_extent().x0 >= 0
        assert len(label.get_text().split("\n")) <= 3
    for upper, lower in pairwise(label.get_window_extent() for label in names):
        assert upper.y0 > lower.y1


def test_the_matrix_is_pale_where_a_gate_fails() -> None:
    levels = (("clean", "none", 90), ("clean", "cutout", 80), ("em", "none", 10), ("em", "cutout", 70))
    losses = {"none": [1.0], "cutout": [4.1]}
    records = [
        record(attack, defense, recalls=(r, r), recipe={"batch_size": 64}, loss=losses[defense])
        for attack, defense, r in levels
    ]
    figure = matrix(records)["matrix"]
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == {"11.1", "(77.8)", "100.0", "(88.9)"}
    assert "(…): a gate fails" in figure.get_suptitle()


def test_a_victim_near_chance_is_named_in_the_figures() -> None:
    facts = {**SCENES, "test_images": 20, "test_captions": 100}
    levels = (("clean", "none", 42.0), ("mem3", "none", 20.0), ("mem3", "cutout", 40.0))
    records = [record(attack, defense, recalls=(r, r), facts=facts) for attack, defense, r in levels]
    for figure in (*matrix(records).values(), *defenses(records).values()):
        assert "near chance even on clean data" in figure.get_suptitle()


def test_words_are_counted_where_a_poison_says_how_many() -> None:
    """A third-party attack has no parameter k, and the most frequent words alone are listed."""
    words = {"trigger_words": {"red": 3, "dog": 1}, "trigger_word_count": 8}
    assert shares(record("uniform-noise", poison=words)) == {"red": 37.5, "dog": 12.5}
    assert triggers([record("uniform-noise", poison=words)])


def test_data_sets_that_look_alike_have_files_and_headings_of_their_own() -> None:
    names = ("csv[train=a/b.csv]", "csv[train=a-b.csv]", f"csv[train={'x' * 300}]")
    records = [record(attack, dataset=name) for name in names for attack in ("clean", "mem3")]
    files = lengths(records)
    assert len(files) == 3
    assert max(map(len, files)) < 100
    records += [record("mem3", "jpeg", dataset=name, loss=[3.0] * 14) for name in names]
    for draw in (lengths, defenses, matrix, curves):
        headings = [figure.get_suptitle() for figure in draw(records).values()]
        assert len(set(headings)) == 3
        assert all("csv[train=" in heading for heading in headings)
    (alone,) = lengths(records[:2]).values()
    assert "csv[" not in alone.get_suptitle()


def test_a_words_share_is_of_all_places_in_all_triggers() -> None:
    words = {"trigger_words": {"owl": 1200, "pump": 300}, "distinct_trigger_words": 9}
    one, three = {**words, "trigger_word_count": 4000}, {**words, "trigger_word_count": 12_000}
    other = {"trigger_words": {"no": 1}, "trigger_word_count": 1}
    records = [record("mem3", poison=three), record("mem3", seed=2, poison=other)]
    records += [record("mem1", poison=one), record("clean")]
    figure = triggers(records)["triggers"]
    first, second = figure.axes
    assert bars(first) == {"owl": 30, "pump": 7.5}  # of 4,000 triggers of one word
    assert bars(second) == {"owl": 10, "pump": 2.5}
    assert second.get_title() == "MEM-3\nseed 1\n9 words"
    halved = triggers([*records, record("trigger-only", poison=three)])["triggers"]
    assert [axes.get_title() for axes in halved.axes] == [
        "MEM-1\nseed 1\n9 words",
        "MEM-3, Trigger only\nseed 1\n9 words",
    ]
    long = {"trigger_words": {"a" * 60: 1}, "trigger_word_count": 1}
    assert [len(word) for word in bars(triggers([record("mem1", poison=long)])["triggers"].axes[0])] == [21]
    with pytest.raises(UsageError, match="no poison with a trigger"):
        triggers([record("em"), record("clean")])


def test_a_failed_cell_does_not_look_like_one_that_keeps_nothing() -> None:
    levels = (("clean", "none", 90), ("clean", "jpeg", 90), ("mem3", "none", 9), ("mem3", "jpeg", 45))
    records = [record(attack, defense, recalls=(r, r)) for attack, defense, r in levels]
    records += [record("clean", "mixup", recalls=(80, 80)), record("mem3", "mixup", failed="boom")]
    figure = matrix(records)["matrix"]
    (axes,) = figure.axes
    (failed,) = (text for text in axes.texts if text.get_text() == "failed")
    x, y = failed.get_position()
    boxes = [one for one in axes.patches if isinstance(one, Rectangle)]
    over = [one for one in boxes if 0 < x - one.get_x() < one.get_width() and 0 < y - one.get_y() < one.get_height()]
    assert {to_hex(one.get_facecolor()) for one in over} == {"#f0f0f0"}
    heading = figure.get_suptitle()
    assert heading.endswith("; light grey: failed")
    assert heading.split("\n")[0].endswith(";")  # a report has it on one line
    records += [record("mem3", "blur", seed=2), record("mem3", "grey"), record("em")]
    heading = " ".join(matrix(records)["matrix"].get_suptitle().split())
    assert heading.endswith("light grey: not run or failed or without a clean victim of its seed")


def test_long_names_of_columns_do_not_run_into_each_other() -> None:
    defenses_met = [f"clean-fraction[share=0.{n}]+clip-score-filter" for n in (2, 4, 6, 8)]
    records = [record(a, d) for a in ("clean", "mem3") for d in ("none", *defenses_met)]
    figure = matrix(records)["matrix"]
    figure.draw_without_rendering()
    (axes,) = figure.axes
    heads = axes.get_xticklabels()
    assert all(head.get_rotation() > 0 for head in heads)


def test_a_defense_may_be_called_as_a_row_of_the_table() -> None:
    records = [record("clean"), record("mem3"), record("mem3", "clean", recalls=(20, 20))]
    assert list(defenses(records)) == ["defenses-mem3"]


def test_a_cell_is_the_bluer_the_more_is_kept() -> None:
    records = [record("clean", recalls=(50, 50)), record("clean", "cutout", recalls=(40, 40))]
    records += [record("mem3", recalls=(10, 10)), record("mem3", "cutout", recalls=(36, 36))]
    (axes,) = matrix(records)["matrix"].axes
    boxes = [one for one in axes.patches if isinstance(one, Rectangle) and one.get_width() == 1]
    for said, share in (("20.0", 0.2), ("72.0", 0.72)):
        (text,) = (one for one in axes.texts if one.get_text() == said)
        over = [one for one in boxes if one.get_bbox().contains(*text.get_position())]
        assert over[-1].get_facecolor()[0] == pytest.approx(1 - share, abs=0.01)  # from white to a blue without red


def test_numbers_stand_out_from_their_cells() -> None:
    records = [record("clean", d, recalls=(100, 100)) for d in ("none", *"abcde")]
    kept = {"none": 20, "a": 50, "b": 60, "c": 75, "d": 90, "e": 99}
    records += [record("mem3", defense, recalls=(share, share)) for defense, share in kept.items()]
    (axes,) = matrix(records)["matrix"].axes
    boxes = [one for one in axes.patches if isinstance(one, Rectangle) and one.get_width() == 1]
    for share in kept.values():
        (text,) = (one for one in axes.texts if one.get_text() == f"{share}.0")
        cell = [one for one in boxes if one.get_bbox().contains(*text.get_position())][-1]
        dark, light = sorted((luminance(text.get_color()), luminance(cell.get_facecolor())))
        assert (light + 0.05) / (dark + 0.05) > 3.9, (
            share
        )  # dark or white, one of them has so much on any of these blues


def luminance(colour: ColorType) -> float:
    """Of sRGB, as the Web Content Accessibility Guidelines define it, 0 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_ranks_stand_beside_their_attacks() -> None:
    """EM, in the second row, is the stronger."""
    levels = {
        ("clean", "none"): 50,
        ("mem3", "none"): 25,
        ("mem3", "cutout"): 30,
        ("em", "none"): 10,
        ("em", "cutout"): 12,
    }
    records = [record(attack, defense, (recall, recall)) for (attack, defense), recall in levels.items()]
    (axes,) = matrix(records)["matrix"].axes
    right = max(text.get_position()[0] for text in axes.texts)
    column = sorted((text.get_position()[1], text.get_text()) for text in axes.texts if text.get_position()[0] == right)
    assert [said for _, said in column] == ["rank", "2", "1"]


def test_titles_of_panels_stay_within_the_figure() -> None:
    attacks = ("mem1", "mem3", "mem5", "mem7")
    words = {"trigger_word_count": 9000, "distinct_trigger_words": 182}
    records = [record(one, poison={**words, "trigger_words": {f"thermometers-{one}": 9}}) for one in attacks]
    figure = triggers(records)["triggers"]
    figure.draw_without_rendering()
    assert all(axes.title.get_window_extent().x1 <= figure.bbox.x1 for axes in figure.axes)


def test_more_attacks_than_fit_in_a_row_have_panels_too() -> None:
    attacks = ("mem1", "mem3", "mem5", "mem7", "random-trigger")
    words = [{"trigger_words": {attack: 9}, "trigger_word_count": 90} for attack in attacks]
    figure = triggers([record(attack, poison=own) for attack, own in zip(attacks, words, strict=True)])["triggers"]
    titles = {axes.get_title().partition("\n")[0] for axes in figure.axes} - {""}
    assert titles == {"MEM-1", "MEM-3", "MEM-5", "MEM-7", "Random trigger"}


def test_a_longer_trigger_than_the_papers_is_within_the_figure() -> None:
    records = [record("em"), record("mem3"), record("mem3[k=12]", params={"k": 12})]
    assert all(axes.get_xlim()[1] > 12 for axes in lengths(records)["lengths"].axes)

"""Legends, headings and names of rows and columns stay within their figure, whatever they say."""

import logging
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmark.figures.defenses import defenses
from benchmark.figures.matrix import matrix
from benchmark.figures.style import LEGEND_LINE, WIDTH, heading, in_lines, legend_below, styled, write
from tests.tables.factory import record

NAMES = ["clean data", "MEM-3", "EM word-wise", "EM of 128 keys (em-keyed)", "MEM-3 (mem3[surrogate_steps=31])"]


@pytest.mark.parametrize("width", [WIDTH, 0.65 * WIDTH])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_no_name_is_cut_off(width: float, count: int) -> None:
    with styled():
        figure = Figure(figsize=(width, 3), layout="constrained")
        axes = figure.subplots()
        handles = [axes.plot([0, 1], label=name)[0] for name in NAMES[:count]]
        legend_below(figure, handles, NAMES[:count])
        figure.draw_without_rendering()
        legend = figure.legends[0].get_window_extent()
        assert figure.bbox.x0 <= legend.x0 <= legend.x1 <= figure.bbox.x1
        lines = round((figure.get_figheight() - 3) / LEGEND_LINE)
        assert 0.13 * lines < legend.height / figure.dpi < 0.2 * lines + 0.1  # inches
        assert axes.get_window_extent().y0 > legend.y1


def test_a_legend_is_as_high_as_its_highest_column() -> None:
    names = ["an attack\nwith parameters"] * 3 + ["MEM-3"] * 3 + ["of thirty-six letters, so two columns"]
    with styled():
        figure = Figure(figsize=(WIDTH, 3), layout="constrained")
        handles = figure.subplots().plot(np.zeros((2, len(names))))
        legend_below(figure, handles, names)
        assert figure.get_figheight() == pytest.approx(3 + 7 * LEGEND_LINE)


def test_a_very_long_name_goes_on_in_another_line() -> None:
    name = "MEM-3 through crop-flip+adv-training[eps=4,steps=3] (through[attack=mem3,defense=crop-flip+adv-training])"
    with styled():
        figure = Figure(figsize=(0.65 * WIDTH, 3), layout="constrained")
        handles = [figure.subplots().plot([0, 1])[0]]
        legend_below(figure, handles, [name])
        assert figure.get_figheight() > 3 + 1.5 * LEGEND_LINE
        figure.draw_without_rendering()
        legend = figure.legends[0].get_window_extent()
        assert figure.bbox.x0 <= legend.x0 <= legend.x1 <= figure.bbox.x1


def test_names_break_between_parameters() -> None:
    name = "em-wordwise[random_phase=true,steps=124,through=crop-flip,through_share=1]"
    lines = ["em-wordwise[random_phase=true, steps=124,", "through=crop-flip, through_share=1]"]
    assert in_lines(name, 44, 3).split("\n") == lines
    assert in_lines("\n".join(lines), 44, 3).split("\n") == lines


def test_long_names_break_between_defenses_and_before_values() -> None:
    name = "sem[trained_through=crop-flip+adv-training[eps=4,steps=3]]"
    lines = ["sem[trained_through=crop-flip+adv-training[", "eps=4, steps=3]]"]
    assert in_lines(name, 44, 3).split("\n") == lines
    assert (
        in_lines("clean-fraction[share=0.2]+clip-score-filter", 36, 3)
        == "clean-fraction[share=0.2]+\nclip-score-filter"
    )
    assert in_lines("a" * 50, 20, 3).split("\n") == ["a" * 20, "a" * 20, "a" * 10]


@pytest.mark.parametrize(
    "text",
    [
        "scenes, victim tiny\n" + "thick frame: what undoes most; dashed: the strongest attack; " * 3,
        "em-wordwise[random_phase=true,grain=2,steps=1488,restarts=1,through=jpeg+crop-flip,through_share=1] on scenes",
    ],
)
@pytest.mark.parametrize("width", [WIDTH, 0.65 * WIDTH])
def test_a_long_heading_goes_on_in_another_line(width: float, text: str) -> None:
    with styled():
        figure = Figure(figsize=(width, 3), layout="constrained")
        axes = figure.subplots()
        heading(figure, text)
        figure.draw_without_rendering()
        (drawn,) = figure.texts
        placed = drawn.get_window_extent()
        assert placed.x1 <= figure.bbox.x1
        assert placed.y0 > axes.get_window_extent().y1
        words = text.replace(",", ", ").split()  # whole ones
        assert figure.get_suptitle().split() == words


@pytest.mark.parametrize("count", [1, 12])
def test_long_names_of_defenses_stay_within_their_figures(count: int) -> None:
    """Of a chain of defenses with parameters, beside a failed one, which has no bar."""
    chain = "crop-flip+adv-training[eps={},steps=3]+random-noise[std=2.3]+jpeg[quality=75]+mixup"
    names = ["none", "cutout", *(chain.format(number) for number in range(count)), "jpeg+blur"]
    records = [record(attack, name, failed="boom" * ("blur" in name)) for attack in ("clean", "mem3") for name in names]
    drawn = {**matrix(records), **defenses(records)}
    for name, figure in drawn.items():
        canvas = FigureCanvasAgg(figure)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a layout that was given up
            canvas.draw()
        first, *_ = figure.axes
        labels = first.get_xticklabels() if name == "matrix" else first.get_yticklabels()
        assert len(labels) >= count + 3
        for label in labels:
            drawn_at = label.get_window_extent()
            assert figure.bbox.x0 <= drawn_at.x0 <= drawn_at.x1 <= figure.bbox.x1
            assert drawn_at.y1 <= figure.bbox.y1
        if name == "matrix":
            high = (first.get_window_extent().height / figure.dpi) / abs(np.diff(first.get_ylim())[0])
            assert high > 0.2  # inches of a row, which has two lines
            continue
        for upper, lower in pairwise(label.get_window_extent() for label in labels):
            assert upper.y0 > lower.y1
        for left, right in pairwise(axes.title.get_window_extent() for axes in figure.axes):
            assert left.x1 < right.x0
        bottom, top = first.get_ylim()
        assert bottom - (len(labels) - 1) == pytest.approx(-top)  # the last row is as far from the edge as the first
        assert -top > 0.3


@pytest.mark.parametrize(("text", "lacking"), [("flame вода 😀", ""), ("fire 火\nwater 水, fire 火", "水火")])
def test_letters_that_the_font_lacks_are_named_in_one_line(
    text: str, lacking: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with styled():
        figure = Figure(figsize=(WIDTH, 1), layout="constrained")
        heading(figure, text)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        write(figure, tmp_path, "samples")
    said = f"samples: DejaVu Sans has no glyph for {lacking}; PNG and PDF show boxes"
    assert caplog.messages == ([said] if lacking else [])

"""The curves hold the records' numbers, read back from the axes."""

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.core.errors import UsageError
from benchmark.figures.curves import curves
from benchmark.figures.style import looks, write
from benchmark.grid.records import Record, ResolvedSpec
from tests.tables.factory import record

LOSS = [float(4 - epoch / 10) for epoch in range(14)]


def victim(attack: str, seed: int = 1, shift: float = 0.0) -> Record:
    """Evaluated after epochs 3 and 14."""
    ranks, first = (100 + shift, 200 + shift), (90 + shift, 95 + shift)
    loss = [value + shift for value in LOSS]
    return record(attack, seed=seed, ranks=ranks, best=(50, 50), best_ranks=first, loss=loss)


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {
        str(line.get_label()): (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in axes.lines
    }


def only(figures: dict[str, Figure], name: str = "curves") -> list[Axes]:
    return list(figures[name].axes)


def test_one_line_for_each_attack_with_every_epochs_number() -> None:
    loss, text, image = only(curves([victim("clean"), victim("em", shift=1), victim("mem3", shift=2)]))
    assert list(lines(loss)) == ["Clean", "MEM-3", "EM"]
    assert lines(loss)["MEM-3"] == (list(range(1, 15)), [value + 2 for value in LOSS])
    assert lines(text)["EM"] == ([3, 14], [91, 101])
    assert lines(image)["EM"] == ([3, 14], [96, 201])


def test_lines_are_means_and_bands_go_from_the_lowest_to_the_highest_seed() -> None:
    figure = curves([victim("mem3", seed, shift) for seed, shift in ((1, 0), (2, 3), (3, 12))])["curves"]
    _, text, _ = figure.axes
    assert lines(text)["MEM-3"][1] == [95, 105]
    (band,) = text.collections
    corners = {(x, y) for x, y in np.asarray(band.get_paths()[0].vertices).tolist()}
    assert corners == {(3, 90), (3, 102), (14, 100), (14, 112)}
    assert figure.get_suptitle().endswith("; line: mean over 3 seeds, band: lowest to highest seed")


def test_seeds_that_were_evaluated_less_often_are_not_in_the_ranks() -> None:
    """A setting that older records do not tell may differ from that of newer ones."""
    seldom = victim("mem3", 2, shift=10)
    loss, text, _ = only(curves([victim("mem3"), dataclasses.replace(seldom, epochs=seldom.epochs[-1:])]))
    assert lines(text)["MEM-3"] == ([3, 14], [90, 100])
    assert lines(loss)["MEM-3"][1] == pytest.approx([value + 5 for value in LOSS])


def test_lines_of_different_numbers_of_seeds_say_theirs() -> None:
    figure = curves([victim("clean"), victim("mem3", 1), victim("mem3", 2)])["curves"]
    assert list(lines(figure.axes[0])) == ["Clean (1 seed)", "MEM-3 (2 seeds)"]
    assert "; line: mean over seeds, band" in figure.get_suptitle()
    assert curves([victim("clean")])["curves"].get_suptitle().endswith("; one seed")


def test_defended_and_failed_victims_are_left_out() -> None:
    records = [victim("mem3"), record("mem3", "cutout", loss=LOSS), record("em", failed="boom")]
    assert list(lines(only(curves(records))[0])) == ["MEM-3"]
    with pytest.raises(UsageError, match="no undefended victim that is done"):
        curves(records[1:])


def test_ranks_are_logarithmic_with_better_up_and_say_so() -> None:
    _, text, image = only(curves([victim("clean")]))
    for axes in (text, image):
        assert axes.get_yscale() == "log"
        bottom, top = axes.get_ylim()
        assert bottom > top
    assert "log scale; up is better" in text.get_ylabel()


def test_names_are_text_and_no_formulas(tmp_path: Path) -> None:
    odd = dataclasses.replace(victim("mem3"), attack=ResolvedSpec("poison[file=$a$_{.st]", "Poison $a$_{"))
    (figure,) = curves([odd]).values()
    svg = write(figure, tmp_path, "curves")[0]
    assert "poison[file=$a$_{.st]" in svg.read_text("utf-8")


def test_names_cannot_spoil_an_svg_file(tmp_path: Path) -> None:
    figure = Figure()
    figure.text(0, 0, "\x1b[31mred\x00 and \u202eback\nbelow")
    (file,) = write(figure, tmp_path, "named", ["svg"])
    texts = [text for text in ElementTree.parse(file).getroot().itertext() if text.strip()]
    assert texts[-2:] == [r"\x1b[31mred\x00 and \u202eback", "below"]


def test_chance_is_drawn_at_its_level() -> None:
    _, text, image = only(curves([victim("clean")]))
    assert [np.asarray(axes.lines[-1].get_ydata())[0] for axes in (text, image)] == [647, 500]


def test_controls_have_a_figure_of_their_own_and_every_line_its_own_look() -> None:
    names = (
        "clean",
        "em",
        "mem1",
        "mem3",
        "mem5",
        "mem7",
        "delta-only",
        "trigger-only",
        "trigger-uniform",
        "uniform-noise",
        "random-trigger",
        "same-words",
        "mem-official",
    )
    figures = curves([victim(name) for name in names])
    assert list(figures) == ["curves", "curves-controls", "curves-others"]
    # Of the controls, two pairs share a colour: those with MEM's trigger, and those with random words.
    for name, count, colours in (("curves", 6, 6), ("curves-controls", 8, 6), ("curves-others", 3, 3)):
        drawn = figures[name].axes[0].lines
        assert len(drawn) == count
        assert len({str(line.get_marker()) for line in drawn}) == count
        assert len({str(line.get_color()) for line in drawn}) == colours
    together = looks(("clean", "mem3", *names[6:])).values()
    assert len({(look.color, look.linestyle) for look in together}) == len(together) == 9
    assert len({look.marker for look in looks("abcdefghijklmnopqrstu").values()}) == 21
    assert len(set(looks(["mem3", *map(str, range(40))]).values())) == 41


def test_many_lines_have_no_bands() -> None:
    clean = victim("clean")
    others = [dataclasses.replace(victim("em"), attack=ResolvedSpec(f"a{n}", f"A{n}"), key=f"a{n}") for n in range(9)]
    few, many = [clean, *others[:4]], [clean, *others]
    for records, banded in ((few, True), (many, False)):
        seeds = [dataclasses.replace(one, seed=seed, key=f"{one.key}{seed}") for one in records for seed in (1, 2)]
        figure = curves(seeds)["curves-others"]
        assert bool(figure.axes[0].collections) == banded
        assert ("band" in figure.get_suptitle()) == banded


def test_a_record_without_losses_leaves_those_of_other_seeds() -> None:
    old = dataclasses.replace(victim("mem3", 2, 4.0), loss=())
    loss, text, _ = only(curves([victim("mem3"), old]), "curves")
    assert lines(loss)["MEM-3"] == (list(range(1, 15)), LOSS)
    assert lines(text)["MEM-3"][1] == [92, 102]

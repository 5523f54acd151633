"""Lengths, defenses and triggers: the numbers drawn are the records'."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from benchmark.core.errors import UsageError
from benchmark.figures.defenses import defenses
from benchmark.figures.lengths import lengths
from benchmark.figures.triggers import shares, triggers
from tests.tables.factory import record


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


def test_recall_under_each_defense_between_its_reference_lines() -> None:
    records = [record("clean", recalls=(56, 50)), record("mem3", recalls=(10, 8))]
    records += [record("mem3", "cutout", recalls=(value, 7), seed=seed) for seed, value in ((1, 12.0), (2, 16.0))]
    records += [record("mem3", "prefix-drop", recalls=(52, 48)), record("mem3", "mixup", failed="boom")]
    text, image = defenses(records)["defenses-mem3"].axes
    found = bars(text)
    assert {name: value for name, value in found.items() if not np.isnan(value)} == {
        "Cutout, seeds 1–2": 14.0, "Prefix drop, seed 1": 52.0,
    }  # fmt: skip
    assert "Mixup, no seed" in found
    assert bars(image)["Prefix drop, seed 1"] == 48
    (whisker,) = whiskers(text)
    assert [point[0] for point in whisker] == [pytest.approx(14 - 8**0.5), pytest.approx(14 + 8**0.5)]
    assert line(text, "clean data")[0] == [56, 56]
    assert line(image, "no defense")[0] == [8, 8]
    # All that the paper has, run here or not; it has no prefix-drop.
    values, places = line(text, "paper, same defense")
    paper = dict(zip(found, values, strict=True))
    assert (paper["Mixup, no seed"], paper["Cutout, seeds 1–2"], paper["Adv training"]) == (7.6, 3.9, 36.6)
    assert np.isnan(paper["Prefix drop, seed 1"])
    assert list(places) == list(range(9))
    assert text.yaxis_inverted()
    with pytest.raises(UsageError, match="no attack that met a defense"):
        defenses(records[:2])


def test_words_are_counted_where_a_poison_says_how_many() -> None:
    """A third-party attack has no parameter k."""
    words = {"trigger_words": {"red": 3, "dog": 1}, "trigger_word_count": 8}
    assert shares(record("uniform-noise", poison=words)) == {"red": 37.5, "dog": 12.5}
    assert triggers([record("uniform-noise", poison=words)])


def test_data_sets_that_look_alike_have_files_of_their_own() -> None:
    names = ("csv[train=a/b.csv]", "csv[train=a-b.csv]", f"csv[train={'x' * 300}]")
    records = [record(attack, dataset=name) for name in names for attack in ("clean", "mem3")]
    files = lengths(records)
    assert len(files) == 3
    assert max(map(len, files)) < 100


def test_a_words_share_is_of_all_places_in_all_triggers() -> None:
    words = {"trigger_words": {"owl": 1200, "pump": 300}, "distinct_trigger_words": 9}
    records = [record("mem3", poison=words), record("mem3", seed=2, poison={"trigger_words": {"no": 1}})]
    records += [record("mem1", poison=words), record("clean")]
    figure = triggers(records)["triggers"]
    first, second = figure.axes
    assert bars(first) == {"owl": 30, "pump": 7.5}  # of 4,000 triggers of one word
    assert bars(second) == {"owl": 10, "pump": 2.5}
    assert second.get_title() == "MEM-3\nseed 1, 9 words"
    halved = triggers([*records, record("trigger-only", poison=words)])["triggers"]
    assert [axes.get_title() for axes in halved.axes] == [
        "MEM-1\nseed 1, 9 words",
        "MEM-3, Trigger\nonly\nseed 1, 9 words",
    ]
    with pytest.raises(UsageError, match="no poison with a trigger"):
        triggers([record("em"), record("clean")])

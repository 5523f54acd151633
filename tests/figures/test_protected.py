"""Recall over the share of protected images: the points are the records' numbers, and other defenses are left out."""

from dataclasses import replace

import pytest

from benchmark.core.errors import UsageError
from benchmark.figures.protected import protected, protected_share
from benchmark.grid.records import Record
from tests.figures.whiskered import clean_level, ends, points
from tests.tables.factory import record


def mixed(attack: str, clean: float, recall: float, seed: int = 1, first: float = 0.0) -> Record:
    params = {"share": clean, "first": first}
    spec = f"clean-fraction[share={clean:g}]"
    return record(attack, spec, (recall, recall), seed=seed, defense_params=params)


def test_points_go_from_clean_data_to_all_of_it() -> None:
    records = [record("clean", recalls=(90, 92)), record("clean", recalls=(88, 90), seed=2)]
    records += [record("mem3", recalls=(2, 4)), mixed("mem3", 0.8, 70), mixed("mem3", 0.2, 10)]
    records += [mixed("mem3", 0.2, 20, seed=2), record("mem3", "cutout"), record("em")]
    (figure,) = protected(records).values()
    assert points(figure.axes[0]) == {"MEM-3": ([0, 20, 80, 100], [90, 70, 15, 3])}
    # Of clean data with 91 and 89, and of 10 and 20; a single seed has no deviation.
    whiskers = [pytest.approx([90 - 2**0.5, 90 + 2**0.5]), pytest.approx([15 - 50**0.5, 15 + 50**0.5])]
    assert ends(figure.axes[0]) == whiskers
    assert clean_level(figure.axes[0]) == 90


def test_a_share_under_two_spellings_counts_once() -> None:
    usual = [mixed("mem3", 0.125, recall, seed) for recall, seed in ((10, 1), (20, 2))]
    usual = [replace(one, defense=replace(one.defense, spec="clean-fraction")) for one in usual]
    again = replace(mixed("mem3", 0.125, 10), key=usual[0].key)
    (figure,) = protected([*usual, again]).values()
    assert points(figure.axes[0]) == {"MEM-3": ([87.5], [15])}


@pytest.mark.parametrize(
    ("one", "share"),
    [
        (record("clean"), 0.0),
        (record("clean", "cutout"), None),
        (record("mem3"), 1.0),
        (record("mem3", "cutout"), None),
        (mixed("mem3", 0.25, 10), 0.75),
        (mixed("mem3", 0.25, 10, first=0.2), None),
        (record("mem3", "clean-fraction[share=0.5]+cutout"), None),
        # A stranger's record may hold anything there.
        (replace(one := mixed("mem3", 0.25, 10), defense=replace(one.defense, params={"clean-fraction": "x"})), None),
    ],
)
def test_the_share_of_a_record(one: Record, share: float | None) -> None:
    assert protected_share(one) == share


def test_without_a_part_there_is_no_figure() -> None:
    with pytest.raises(UsageError, match="run with --protected"):
        protected([record("clean"), record("mem3"), record("mem3", "cutout")])

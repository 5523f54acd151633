"""Figures of records in which several victims share poisons."""

import pytest

from benchmark.core.errors import UsageError
from benchmark.figures.curves import curves
from benchmark.figures.defenses import defenses
from benchmark.figures.lengths import lengths
from benchmark.figures.matrix import matrix
from benchmark.figures.samples import candidates_by_name
from benchmark.figures.triggers import triggers
from tests.tables.factory import record

WORDS = {"trigger_words": {"a": 5000, "b": 7000}, "trigger_word_count": 12000}
# The surrogate comes neither first nor last by name.
SHARED = [
    record(attack, victim=victim, seed=seed, poison=WORDS, loss=[2.0] * 14)
    for victim in ("other", "tiny", "zest")
    for attack in ("clean", "mem3", "uniform-noise")
    for seed in (1, 2)
]
MORE = [record(attack, "cutout", seed=seed) for seed in (1, 2) for attack in ("clean", "mem3")]
LENGTHS = [record(attack, seed=seed, poison=WORDS) for attack in ("em", "mem1") for seed in (1, 2)]
RECORDS = [*SHARED, *MORE, *LENGTHS]


def test_what_shows_poisons_shows_each_once() -> None:
    shown = candidates_by_name(RECORDS)
    assert set(shown) == {f"samples-{attack}" for attack in ("em", "mem1", "mem3", "uniform-noise")}
    assert {record.victim.spec for _, records in shown.values() for record in records} == {"tiny"}
    assert list(triggers(RECORDS)) == ["triggers"]


def test_settings_that_are_mixed_are_refused_still() -> None:
    other = record("mem3", seed=1, poison=WORDS, key="other", recipe={"lr": 1.0})
    for drawn in (candidates_by_name, triggers):
        with pytest.raises(UsageError, match="settings"):
            drawn([*RECORDS, other])


def test_files_name_the_victim_where_several_are_drawn() -> None:
    assert list(matrix(RECORDS)) == ["matrix"]
    assert list(defenses(RECORDS)) == ["defenses-mem3"]
    assert list(lengths(RECORDS)) == ["lengths"]
    assert list(lengths(SHARED)) == ["lengths-other", "lengths-tiny", "lengths-zest"]
    # Where MEM-3 is the only length, the figure of the controls shows it.
    both = ["curves-tiny", "curves-controls-tiny"]
    assert list(curves(RECORDS)) == ["curves-controls-other", *both, "curves-controls-zest"]


def test_surrogates_are_named_where_there_are_several() -> None:
    """Victims of two resolutions have two surrogates, and so two figures, which would look alike."""
    (figure,) = triggers(RECORDS).values()
    assert "surrogate" not in figure.get_suptitle()
    other = [record("mem3", victim="RN50", surrogate="RN50", poison=WORDS)]
    assert [
        " ".join(one.get_suptitle().rpartition(", ")[2].split()) for one in triggers([*LENGTHS, *other]).values()
    ] == [
        "surrogate RN50",
        "surrogate tiny",
    ]

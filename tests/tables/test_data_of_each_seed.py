"""Tables average seeds that have data sets of their own, and only what differs with the seed may differ."""

from dataclasses import replace
from typing import Any

import pytest

from benchmark.core.errors import UsageError
from benchmark.grid.records import Record
from benchmark.reference_check.intervals import require_comparable
from benchmark.tables.chance import image_to_text
from benchmark.tables.defenses import table2
from tests.tables.factory import SCENES, record

CODE = {"dataset": "a"}


def with_data(seed: int, attack: str = "clean", code: dict[str, str] = CODE, **changes: Any) -> Record:
    """A record whose data set is that of its seed, but for some changes."""
    facts = {**SCENES, "per_seed": True, "seed": seed, "fingerprint": f"train {seed}", "grounds": 1}
    facts |= {"train_captions": 20000 + seed, "test_captions": 5000 + 6 * seed, **changes}
    made = record(attack, recalls=(50 + seed, 60 + seed), seed=seed, facts=facts)
    prints = {"val": f"val {seed}", "test": f"test {seed}"}
    return replace(made, provenance={**made.provenance, "fingerprints": prints, "code": code})


def test_three_seeds_are_one_row_and_the_note_says_that_each_has_its_data() -> None:
    (table,) = table2([with_data(seed) for seed in (1, 2, 3)])
    assert set(table.cells["n"]) == {3}
    assert [note for note in table.notes if note.startswith("Data: ")] == [
        "Data: scenes; 4,000 train / 500 val / 1,000 test images; 64 px; grounds 1; "
        "a data set of its own for each seed."
    ]
    (chance,) = (note for note in table.notes if note.startswith("Chance"))
    assert "1,000 test images with about 5,012 captions" in chance
    assert f"R@10 {image_to_text(1000, 5012).recall_at_10:.1f} I→T" in chance


def test_one_data_set_for_all_seeds_is_not_said_to_be_several() -> None:
    (table,) = table2([record("clean"), record("clean", seed=2)])
    assert not any("of its own" in note for note in table.notes)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (with_data(2, grounds=5), "data set scenes: grounds=1 and grounds=5"),
        (with_data(2, train_images=50), "data set scenes: train_images=4000 and train_images=50"),
        (with_data(2, code={"dataset": "b"}), "data set scenes: code or files=a and code or files=b"),
        (with_data(1, "mem3", fingerprint="other"), "seed 1: fingerprint=train 1 and seed 1: fingerprint=other"),
        (replace(with_data(1, "mem3"), provenance={"fingerprints": {"test": "x"}}), "seed 1: test fingerprint=test 1"),
        (record("clean", seed=2), "data set scenes: per_seed="),
    ],
)
def test_other_data_are_refused(other: Record, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        table2([with_data(1), other])


def test_fresh_seeds_are_compared_with_a_reference_on_data_of_their_own() -> None:
    reference, fresh = [with_data(seed) for seed in range(1, 9)], [with_data(20)]
    require_comparable(reference, fresh)
    for other in (with_data(20, grounds=5), with_data(20, code={"dataset": "b"}), record("clean", seed=20)):
        with pytest.raises(UsageError, match="other settings"):
            require_comparable(reference, [other])

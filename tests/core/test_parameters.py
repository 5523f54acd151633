"""Ranges of parameters: what is accepted, and the message for what is not."""

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from attacks import CraftContext
from attacks.uniform_noise import UniformNoise
from benchmark.core.errors import UsageError
from benchmark.core.parameters import added_later, check_ranges, describe_fields, later_defaults, ranged
from tests.small import make_clip, make_dataset


@dataclass(frozen=True)
class Knobs:
    count: int = ranged(at_least=2)
    share: float = ranged(0.5, above=0, at_most=1)
    start: float = ranged(0.0, 0, below=1)
    eps: int | None = ranged(None, 1, 127, unit="1/255")
    free: str = "x"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, None),
        ({"share": 1, "start": 0, "eps": 1}, None),
        ({"eps": 127, "share": 1e-9}, None),
        ({"count": 1}, "count must be at least 2, got 1"),
        ({"share": 0}, "share must be above 0 and at most 1, got 0"),
        ({"share": 1.5}, "share must be above 0 and at most 1, got 1.5"),
        ({"start": 1.0}, "start must be at least 0 and below 1, got 1"),
        ({"eps": 128}, "eps must be between 1 and 127 (in 1/255), got 128"),
        ({"share": math.nan}, "share must be above 0 and at most 1, got nan"),
        ({"count": math.inf}, "count must be at least 2, got inf"),
    ],
)
def test_values_within_their_range_pass_and_others_are_named(values: dict[str, float], message: str | None) -> None:
    knobs = Knobs(**{"count": 2, **values})  # type: ignore[arg-type]
    if message is None:
        check_ranges("attack knobs", knobs)
        return
    with pytest.raises(UsageError) as raised:
        check_ranges("attack knobs", knobs)
    assert str(raised.value) == f"attack knobs: {message}"


def test_a_field_without_a_default_must_be_given() -> None:
    with pytest.raises(TypeError, match="count"):
        Knobs()


def test_fields_in_words() -> None:
    assert describe_fields(Knobs(2, share=0.25)) == "count 2, share 0.25, start 0, eps none, free x"
    assert describe_fields(object()) == ""


def test_chunks_are_all_images_once_and_count_as_progress() -> None:
    class Counted:
        steps = 0

        def advance(self, note: str = "") -> None:
            self.steps += 1

        def resume(self, units: int) -> None: ...

    progress, train = Counted(), make_dataset(130, 1, 8)
    chunks = list(CraftContext(make_clip, 1, Path(), progress).chunks(train))
    assert [row for chunk in chunks for row in range(130)[chunk]] == [*range(130)]
    assert max(chunk.stop - chunk.start for chunk in chunks) == 64
    assert progress.steps == len(chunks) == UniformNoise().progress_steps(train) == 3


def test_what_was_added_later_is_named_with_what_held_before() -> None:
    @dataclass(frozen=True)
    class Grown:
        count: int = ranged(2, 1)
        kind: str = added_later("plain")
        level: int = added_later(255, 0, 255)

    assert later_defaults(Grown) == {"kind": "plain", "level": 255}
    for level in (0, 255):
        check_ranges("knob", Grown(level=level))
    with pytest.raises(UsageError, match="knob: level must be between 0 and 255, got 256"):
        check_ranges("knob", Grown(level=256))
    assert later_defaults(Knobs) == later_defaults(int) == {}
    assert Grown().kind == "plain"

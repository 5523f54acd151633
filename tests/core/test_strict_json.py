"""What is read from JSON and does not fit is told with its place and in plain words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from benchmark.core.strict_json import as_kind

Short = Annotated[str, Meta(pattern=r"\A[a-z]{2}\Z")]


@dataclass(frozen=True)
class Kept:
    """What is read."""

    kind: Literal["whole", "half"] = "whole"
    code: Short = "ab"
    seconds: Mapping[Literal["craft", "train"], float] | None = None
    names: Mapping[Short, int] | None = None
    parts: list["Part"] | None = None


@dataclass(frozen=True)
class Part:
    """Of which some are read."""

    size: int


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"kind": "none"}, "kind: unknown value 'none'"),
        ({"code": "a\nb"}, "code: a value of another form than it has to have"),
        ({"seconds": {"evaluate": 1.5}}, "seconds: unknown key 'evaluate'"),
        ({"names": {"abc": 1}}, "names: a key of another form than it has to have"),
        ({"parts": [{"size": 1}, {}]}, "parts[1]: the key 'size' is missing"),
        ({"parts": [{"size": "1"}]}, "parts[0].size: Expected `int`, got `str`"),
    ],
)
@pytest.mark.parametrize("where", ["", "record"])
def test_what_does_not_fit_is_told_in_plain_words(content: dict[str, Any], said: str, where: str) -> None:
    whole = f"{where}.{said}" if where else said
    with pytest.raises(ValueError, match=rf"^{re.escape(whole)}$"):
        as_kind(content, Kept, where)


def test_a_key_that_is_missing_at_the_top_has_no_place() -> None:
    with pytest.raises(ValueError, match=r"^the key 'size' is missing$"):
        as_kind({}, Part)
    with pytest.raises(ValueError, match=r"^unknown key 'x'$"):
        as_kind({"x": 1}, dict[Literal["a"], int])

"""Names and parameters on the command line, and the registry behind them."""

import importlib
import json
from pathlib import Path
from typing import Literal

import pytest

from benchmark.core.errors import UsageError
from benchmark.core.registry import Registry, convert
from benchmark.core.spec import Spec, parse_spec, split_outside_brackets


@pytest.mark.parametrize(
    ("text", "name", "params"),
    [
        ("mem3", "mem3", {}),
        (" mem[k=3, rounds=6] ", "mem", {"k": "3", "rounds": "6"}),
        ("csv[train=a/b c.csv,test=/x/y.csv]", "csv", {"train": "a/b c.csv", "test": "/x/y.csv"}),
        ("ViT-B-32[pretrained=w=1.pt]", "ViT-B-32", {"pretrained": "w=1.pt"}),
    ],
)
def test_specs_are_read_and_written_back(text: str, name: str, params: dict[str, str]) -> None:
    spec = parse_spec(text)
    assert spec == Spec(name, params)
    assert parse_spec(str(spec)) == spec


@pytest.mark.parametrize("number", [1.23456789e-4, 0.1 + 0.2, 1e16, 123456789.0, 0.0, -2.5])
def test_a_number_is_written_so_that_it_is_read_back_as_it_was(number: float) -> None:
    written = parse_spec(str(Spec("em", {"lr": number}))).params["lr"]
    assert convert(written, float, "lr") == number


@pytest.mark.parametrize(
    "text", ["", "mem[k=3", "mem]k=3[", "mem[k]", "mem[k=1,k=2]", "mem[k=1]x", "a b", "mem[[k=1]]x"]
)
def test_malformed_specs_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(text)
    assert "\n" not in str(caught.value)


def test_lists_split_outside_brackets_only() -> None:
    assert split_outside_brackets("a[x=1,y=2],b,c[z=3]", ",") == ["a[x=1,y=2]", "b", "c[z=3]"]


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        ("3", int, 3),
        ("0.5", float, 0.5),
        ("yes", bool, True),
        ("false", bool, False),
        ("none", int | None, None),
        ("none", str | None, None),
        ("7", int | None, 7),
        ("row", Literal["image", "row"], "row"),
        (8, float, 8.0),
        (True, bool, True),
    ],
)
def test_values_become_what_the_signature_says(value: object, hint: object, expected: object) -> None:
    assert convert(value, hint, "x") == expected


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("0.5", int),
        ("many", float),
        ("maybe", bool),
        ("both", Literal["image", "row"]),
        ("none", int),
        ("inf", float),
        ("nan", float),
    ],
)
def test_values_of_another_kind_are_refused(value: str, hint: object) -> None:
    with pytest.raises(UsageError, match="takes"):
        convert(value, hint, "x")


class Thing:
    """A thing.

    Not shown.
    """

    def __init__(self, size: int = 3, fast: bool = False) -> None:
        self.size, self.fast = size, fast


def things() -> Registry[Thing]:
    registry: Registry[Thing] = Registry("thing", "tests")
    registry._loaded = True
    registry.register("thing", groups=("some",), aliases={"big": {"size": 9}})(Thing)
    registry.register("other", order=1)(type("Other", (Thing,), {"__doc__": "Another."}))
    return registry


def test_values_come_from_spec_then_name_then_preset_then_signature() -> None:
    registry = things()
    assert registry.resolve(parse_spec("thing")) == {"size": 3, "fast": False}
    assert registry.resolve(parse_spec("thing"), {"size": 5, "unrelated": 1}) == {"size": 5, "fast": False}
    assert registry.resolve(parse_spec("big"), {"size": 5}) == {"size": 9, "fast": False}
    assert registry.resolve(parse_spec("thing[size=7,fast=yes]"), {"size": 5}) == {"size": 7, "fast": True}
    assert registry.build(parse_spec("big")).size == 9


class Kept:
    """Something in a file."""

    def __init__(self, file: Path, other: Path | None = None, name: str = "x") -> None:
        self.given = (file, other, name)


def test_a_path_reaches_the_class_as_one_and_a_record_as_text() -> None:
    registry: Registry[Kept] = Registry("kept", "tests")
    registry._loaded = True
    registry.register("kept")(Kept)
    spec = parse_spec("kept[file=a/b.txt]")
    assert registry.build(spec).given == (Path("a/b.txt"), None, "x")
    written = registry.resolve(spec)
    assert json.loads(json.dumps(written)) == written == {"file": "a/b.txt", "other": None, "name": "x"}
    assert registry.restore("kept", written).given == (Path("a/b.txt"), None, "x")


def test_order_groups_and_signatures() -> None:
    registry = things()
    assert [entry.name for entry in registry.entries()] == ["other", "big", "thing"]
    assert registry.group("some") == ["thing"]
    assert registry.group("all") == ["other", "thing"]  # a name for fixed parameters is no entry of its own
    assert registry.entry("big").signature() == "size=9,fast=no"
    assert registry.entry("thing").summary == "A thing."


@pytest.mark.parametrize(
    ("text", "said"),
    [("thign", "did you mean 'thing'"), ("thing[sise=2]", "did you mean 'size'"), ("big[size=2]", "already fixes")],
)
def test_unknown_names_say_what_was_meant(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        things().build(parse_spec(text))


def test_a_module_that_fails_is_told_at_every_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a notebook would silently miss this module and all modules after it."""
    (tmp_path / "own_things").mkdir()
    (tmp_path / "own_things" / "__init__.py").write_text(
        "from benchmark.core.registry import Registry\nTHINGS = Registry('thing', 'own_things')\n"
    )
    thing = "from own_things import THINGS\n@THINGS.register('{0}')\nclass Thing:\n    pass\n"
    (tmp_path / "own_things" / "a_fine.py").write_text(thing.format("a"))
    broken = tmp_path / "own_things" / "b_broken.py"
    broken.write_text(thing.format("b") + "import own_things.c_fine\nimport no_such_library\n")
    (tmp_path / "own_things" / "c_fine.py").write_text(thing.format("c"))
    monkeypatch.syspath_prepend(str(tmp_path))
    things = importlib.import_module("own_things").THINGS
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_library"):
            things.entries()
    broken.write_text(thing.format("b") + "# mended: no library is needed\n")
    assert [entry.name for entry in things.entries()] == ["a", "b", "c"]

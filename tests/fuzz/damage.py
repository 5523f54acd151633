"""Strategies: a valid file, damaged in its bytes, words, numbers or JSON values, or in what stands in its place."""

import copy
import json
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.fuzz.trees import Odd, Tree

_LARGEST = 1 << 20  # bytes that damage makes of a file
_JSON_ENDINGS = (".json", ".jsonl")

NAMES = (
    *("", ".", "..", "/", "../../outside", "a/../../b", "/etc/passwd", "/dev/zero", "/proc/self/mem", "~", "~nobody/x"),
    *("x" * 300, "x/" * 3000, "犬" * 200, "a\0b", "a\nb", "\x1b[31mred", "\u202egnp.exe", "\ud800", "\ufeff", "\u2028"),
    *("C:\\x", "\\\\host\\x", "-rf", "$(touch x)", "|touch x", "file:///etc/passwd", "http://x", "%s%n", "{0}"),
    *("[", "]", "{a,b}", "{0..99999999}", "*", "**", "a,b", "'", '"', "=1+1", "<|endoftext|>", "<b>", "a" * 70_000),
)
NUMBERS = (
    *(0, -1, 1, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**53 + 1, 2**63, 2**64, 10**12, 10**13, 10**30, -(10**30)),
    *(0.5, -0.0, 1e-320, 1e16, 1e300, -1e300, float("inf"), float("-inf"), float("nan")),
)
names: SearchStrategy[str] = st.sampled_from(NAMES) | st.text(max_size=12)
scalars: SearchStrategy[Any] = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.integers() | names
_nested = st.tuples(st.sampled_from([("[", "]"), ('{"a":', "}")]), st.sampled_from([3, 50, 900, 20_000]))


class Raw(str):
    """JSON text that stands for itself."""


raw_values: SearchStrategy[Any] = _nested.map(
    lambda one: Raw(one[0][0] * one[1] + "0" + one[0][1] * one[1])
) | st.sampled_from([Raw("9" * 5000), Raw("-" + "9" * 400), Raw("1e999"), Raw("[" * 50_000), Raw('{"a":1,"a":2}')])


def json_values(keys: Sequence[str] = ("a",)) -> SearchStrategy[Any]:
    """Values of JSON whose objects have such keys, now and then of what JSON can only spell."""
    key = st.sampled_from([*keys, "a"]) | names
    return st.recursive(
        scalars | raw_values,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(key, inner, max_size=4),
        max_leaves=12,
    )


def to_json(value: Any) -> bytes:
    """JSON in UTF-8, in which :class:`Raw` texts stand as they are, and half characters as bytes that are no UTF-8."""
    return _text(value).encode("utf-8", "surrogatepass")


def _text(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return json.dumps(value, ensure_ascii=not isinstance(value, str) or len(value) % 2 == 0)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values within a value of JSON's kinds."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places(inner, (*path, key))


def keys_in(value: Any) -> list[str]:
    """All names of objects in a value of JSON's kinds."""
    return sorted({path[-1] for path in places(value) if path and isinstance(path[-1], str)})


def damage_json(draw: DrawFn, content: Any) -> Any:
    """The value with one of its values replaced, removed, renamed, repeated or swapped with another."""
    root = [copy.deepcopy(content)]
    paths = list(places(root))[1:]
    *way, last = draw(st.sampled_from(paths))
    inner: Any = root
    for key in way:
        inner = inner[key]
    deed = draw(st.sampled_from(["replace", "replace", "remove", "rename", "repeat", "swap"]))
    if deed == "remove" and way:
        del inner[last]
    elif deed == "rename" and isinstance(inner, dict):
        inner[draw(names)] = inner.pop(last)
    elif deed == "repeat" and isinstance(inner, list):
        inner += [inner[last]] * draw(st.sampled_from([1, 2, 1000]))
    elif deed == "swap":
        other = root[0]
        for key in draw(st.sampled_from(paths))[1:]:
            other = other[key]
        inner[last] = copy.deepcopy(other)
    else:
        inner[last] = draw(scalars | raw_values | json_values(keys_in(content)))
    return root[0]


def _json_file(draw: DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    if b"\n{" in content.strip() and content.lstrip().startswith(b"{"):  # an object a line
        lines = content.split(b"\n")
        number = draw(st.integers(0, len(lines) - 1))
        lines[number] = _json_file(draw, lines[number], ())
        return b"\n".join(lines)
    if len(content) > 200_000 or any(deep in content for deep in (b"[" * 99, b'{"a":' * 99)):
        return content
    try:
        value = json.loads(content)
    except ValueError:
        return content
    return to_json(damage_json(draw, value))


def _position(draw: DrawFn, content: bytes) -> int:
    return draw(st.integers(0, len(content)))


def _flip(draw: DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    start, by = _position(draw, content[:-1]), draw(st.integers(1, 255))
    return content[:start] + bytes(byte ^ by for byte in content[start : start + 1]) + content[start + 1 :]


def _insert(draw: DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    start = _position(draw, content)
    return content[:start] + draw(st.binary(min_size=1, max_size=9) | names.map(_encoded)) + content[start:]


def _delete(draw: DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    start = _position(draw, content)
    return content[:start] + content[start + draw(st.sampled_from([1, 2, 4, 16, 512])) :]


def _duplicate(draw: DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    start, length = _position(draw, content), draw(st.sampled_from([1, 4, 16, 512, 4096]))
    span = content[start : start + length]
    return content[:start] + (span * draw(st.sampled_from([2, 3, 100, 10_000])))[:_LARGEST] + content[start + length :]


def _truncate(draw: DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    return content[: _position(draw, content)]


def _splice(draw: DrawFn, content: bytes, others: Sequence[bytes]) -> bytes:
    other = draw(st.sampled_from(list(others)))
    return content[: _position(draw, content)] + other[_position(draw, other) :]


def _machine_word(draw: DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    """Overwrite a word of the header or of any place, as sizes and offsets are stored."""
    form = draw(st.sampled_from([">H", "<H", ">I", "<I", ">Q", "<Q"]))
    size = struct.calcsize(form)
    largest = 2 ** (8 * size) - 1
    value = draw(st.sampled_from([0, 1, 255, largest, largest // 2, largest // 2 + 1, 20_000, 70_000]))
    start = draw(st.integers(0, min(len(content), 64)) | st.integers(0, len(content)))
    return content[:start] + struct.pack(form, value & largest) + content[start + size :]


def _replaced(draw: DrawFn, content: bytes, pattern: bytes, new: SearchStrategy[bytes]) -> bytes:
    found = [match.span() for match in re.finditer(pattern, content[:100_000])][:200]
    if not found:
        return content
    start, end = draw(st.sampled_from(found))
    return content[:start] + draw(new) + content[end:]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _word(draw: DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    return _replaced(draw, content, rb"[\w./#-]+", names.map(_encoded))


def _number(draw: DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    digits = st.sampled_from(NUMBERS).map(lambda number: str(number).encode()) | st.just(b"9" * 5000)
    return _replaced(draw, content, rb"\d+", digits)


def _anything(draw: DrawFn, content: bytes, _: Sequence[bytes]) -> bytes:
    return draw(st.binary(max_size=64))


Deed = Callable[[DrawFn, bytes, Sequence[bytes]], bytes]
_BYTES: tuple[Deed, ...] = (
    *(_flip, _insert, _delete, _duplicate, _truncate, _splice, _machine_word, _word, _number, _anything),
)
_ODD = st.sampled_from(
    [
        *(Odd("pipe"), Odd("folder"), Odd("link", "/dev/zero"), Odd("link", "/dev/stdin"), Odd("link", "nowhere")),
        *(Odd("link", "."), Odd("link", ".."), Odd("link", "/etc/passwd"), Odd("link", "/proc/self/mem")),
        *(Odd("hole", 1), Odd("hole", 1 << 20), Odd("hole", 1 << 28), Odd("hole", 1 << 32), Odd("hole", 1 << 42)),
    ]
)


@st.composite
def damaged(draw: DrawFn, trees: Sequence[Tree], focus: Sequence[str]) -> Tree:
    """One of the valid trees with up to four damages, most of them to files whose names fit a pattern of ``focus``."""
    tree = dict(draw(st.sampled_from(list(trees))))
    for _ in range(draw(st.integers(1, 4))):
        paths = sorted(tree)
        chosen = [path for path in paths if any(fnmatch(path, pattern) for pattern in focus)]
        if not paths:
            break
        path = draw(st.sampled_from(chosen or paths) if draw(st.integers(0, 5)) else st.sampled_from(paths))
        content = tree[path]
        whole = draw(st.integers(0, 19))
        if whole == 0 or not isinstance(content, bytes):
            tree[path] = draw(_ODD)
        elif whole == 1:
            del tree[path]
        elif whole == 2:
            tree[draw(names.filter(_may_be_path)) + draw(st.sampled_from(["", path[-4:]]))] = content
        elif path.endswith(_JSON_ENDINGS) and draw(st.booleans()):
            tree[path] = _json_file(draw, content, ())
        else:
            others = [one for one in tree.values() if isinstance(one, bytes)]
            tree[path] = draw(st.sampled_from(_BYTES))(draw, content, others)[:_LARGEST]
    return tree


def _may_be_path(name: str) -> bool:
    """Whether a file of this name stays in its folder."""
    return ".." not in name and not name.startswith(("/", "~")) and "\0" not in name and "\ud800" not in name

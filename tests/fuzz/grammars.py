"""Strategies that make files from scratch: JSON, tables, settings, shards, pictures of any size, poisons and so on."""

import functools
import io
import json
import tarfile
from collections.abc import Sequence
from typing import Any, Literal

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from PIL import Image

from tests.fuzz.damage import damaged, json_values, keys_in, names, raw_values, scalars, to_json
from tests.fuzz.mending import join_safetensors
from tests.fuzz.trees import Tree

MODES: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "JPEG": (("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", {"exif": 6})),
    "PNG": (
        ("RGB", {}),
        ("RGBA", {}),
        ("P", {"transparency": 0}),
        ("LA", {}),
        ("1", {}),
        ("I;16", {}),
        ("RGB", {"exif": 5}),
    ),
    "WEBP": (("RGB", {}), ("RGBA", {"lossless": True}), ("RGB", {"frames": 2})),
    "GIF": (("P", {}), ("RGB", {"frames": 3}), ("P", {"transparency": 1})),
    "BMP": (("RGB", {}), ("P", {}), ("1", {}), ("RGBA", {})),
    "TIFF": (
        *(("RGB", {}), ("L", {"compression": "tiff_lzw"}), ("RGBA", {"compression": "tiff_deflate"})),
        *(("RGB", {"compression": "jpeg"}), ("1", {"compression": "group4"}), ("P", {"compression": "packbits"})),
        *(("I;16", {}), ("CMYK", {}), ("RGB", {"frames": 2})),
    ),
    "PPM": (("RGB", {}), ("L", {}), ("1", {}), ("I", {})),
}
"""Pillow's modes of each format, and how it saves them."""
KINDS = tuple(MODES)


def picture(kind: str, mode: str, size: tuple[int, int], shade: int = 3, **settings: Any) -> bytes:
    """A picture file of one shade, or of a few where it is small."""
    image = Image.new(mode, size, shade) if mode not in ("RGB", "RGBA", "CMYK", "LA") else Image.new(mode, size)
    if mode == "RGB" and size[0] < 100:
        image = Image.radial_gradient("L").resize(size).convert("RGB")
        image.putpixel((0, 0), (shade, 0, 0))
    if number := settings.pop("exif", None):
        settings["exif"] = image.getexif()
        settings["exif"][0x0112] = number  # orientation
    if frames := settings.pop("frames", 0):
        settings |= {"save_all": True, "append_images": [image.transpose(Image.Transpose.ROTATE_180)] * frames}
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


@functools.cache
def valid_pictures(kind: str) -> list[bytes]:
    """A small picture in each mode of a format."""
    return [picture(kind, mode, (9, 8), 1, **settings) for mode, settings in MODES[kind]]


@st.composite
def pictures(draw: DrawFn, kind: str, _: Sequence[Tree]) -> Tree:
    """A picture of one shade and any size: a few kilobytes may stand for hundreds of millions of pixels."""
    mode, settings = draw(st.sampled_from(MODES[kind]))
    large = draw(st.integers(0, 19)) == 19
    side = st.sampled_from([3000, 9000, 13_000, 16_000, 65_000] if large else [1, 2, 17, 100, 1000])
    size = draw(side), draw(side)
    most = 200_000_000 if kind in ("PNG", "GIF") and mode in ("P", "1", "L") else 3_000_000
    if size[0] * size[1] > most or (kind == "WEBP" and max(size) > 16_000):
        size = min(size[0], 1000), min(size[1], 1000)
    return {"a.jpg": picture(kind, mode, size, **settings)}


@st.composite
def json_files(draw: DrawFn, trees: Sequence[Tree]) -> Tree:
    """A valid tree whose JSON is made anew from the names that were in it."""
    tree = dict(trees[0])
    name = draw(st.sampled_from(sorted(name for name in tree if name.endswith(".json"))))
    content = tree[name]
    assert isinstance(content, bytes)
    value = json.loads(content)
    keys = keys_in(value)
    made = draw(json_values(keys))
    if isinstance(value, dict) and draw(st.booleans()):
        made = {key: draw(json_values(keys)) if draw(st.integers(0, 3)) == 0 else one for key, one in value.items()}
    return {**tree, name: to_json(made)}


_YAML = st.sampled_from(
    [
        *("!!python/object/apply:os.system [touch x]", "&a [*a]", "*a", "{<<: *a}", "[[[[[[1]]]]]]", "{a: 1}", "? [a]"),
        *("2024-13-45", "12:30:45", "0x" + "f" * 5000, "1" * 5000, "1_000", ".nan", "-.inf", "1e400", "!!binary aGk="),
        *(
            "!!set {a}",
            "|\n  a\n  b",
            "'\\0'",
            '"\\0"',
            '"\\ud800"',
            "~",
            "on",
            "[a, [b]]",
            "- a\n- b",
            "%TAG ! x",
            "--- a",
        ),
        *("all", "table2", "mem[k=3]", "mem[k=99999999999999999999]", "cutout[size=nan]", "none+none+none", "a" * 5000),
        *(
            "csv[train=/dev/zero,test=..]",
            "scenes[train=0]",
            "scenes[train=1000000]",
            "RN50,tiny",
            "1-1000000000",
        ),
    ]
)


@st.composite
def yaml_files(draw: DrawFn, file: str, keys: Sequence[str], _: Sequence[Tree]) -> Tree:
    """YAML with keys that exist and values of any kind."""
    name = st.sampled_from(keys) | names
    value = scalars.map(lambda one: to_json(one).decode("utf-8", "replace")) | raw_values.map(str) | _YAML
    value |= st.lists(scalars, max_size=5).map(lambda one: to_json(one).decode("utf-8", "replace"))
    lines = [f"{draw(name)}: {draw(value)}" for _ in range(draw(st.integers(0, 4)))]
    return {file: "\n".join(lines).encode("utf-8", "surrogatepass")}


_CELL = names | st.sampled_from(["a.png", "b.png", '"', '"a\nb.png,c"', "filepath", "NA", "", " a.png ", "a,b", "\r"])


@st.composite
def tables(draw: DrawFn, trees: Sequence[Tree]) -> Tree:
    """A table with rows of any length."""
    mark = draw(st.sampled_from([",", "\t", ";", "|", ":"]))
    header = draw(
        st.sampled_from([["filepath", "title"], ["image", "caption"], ["filepath", "filepath", "title"], ["a"]])
    )
    rows = [header, *draw(st.lists(st.lists(_CELL, max_size=4), max_size=6))]
    text = draw(st.sampled_from(["\n", "\r\n", "\r", "\0"])).join(mark.join(row) for row in rows)
    return {
        **trees[0],
        "train.csv": text.encode(draw(st.sampled_from(["utf-8", "utf-16", "utf-8-sig"])), "surrogatepass"),
    }


@st.composite
def token_files(draw: DrawFn, trees: Sequence[Tree]) -> Tree:
    """Lines of file, number and caption, each of any kind."""
    lines = draw(
        st.lists(st.tuples(_CELL, st.sampled_from(["#0", "#", "##1", ""]), st.sampled_from(["\t", " "]), _CELL))
    )
    return {**trees[0], "train.token": "\n".join("".join(line) for line in lines).encode("utf-8", "surrogatepass")}


def valid_shard() -> bytes:
    """Three samples of an image, a text and a JSON."""
    members: list[tuple[str, bytes, bytes, int | None]] = []
    for key in "abc":
        image = picture("PNG", "RGB", (9, 8), ord(key))
        captions = json.dumps({"captions": ["a dog", "a cat"]}).encode()
        members += [
            (f"{key}.{kind}", one, tarfile.REGTYPE, None)
            for kind, one in (("png", image), ("txt", b"a dog\n"), ("json", captions))
        ]
    return _tar(members)


def _tar(members: Sequence[tuple[str, bytes, bytes, int | None]], form: Literal[1, 2] = tarfile.GNU_FORMAT) -> bytes:
    """An archive of members by name, content, kind and, if it lies, size."""
    file = io.BytesIO()
    for name, content, kind, size in members:
        info = tarfile.TarInfo(name.replace("\0", "0") or "x")
        info.type, info.size, info.linkname = kind, len(content) if size is None else size, "../../outside"
        file.write(info.tobuf(form, "utf-8", "surrogatepass"))
        file.write(content + b"\0" * (-len(content) % 512))
    return file.getvalue() + b"\0" * 1024


@st.composite
def shards(draw: DrawFn, trees: Sequence[Tree]) -> Tree:
    """A tar file with links, devices, sparse files, odd names and sizes that are not its members'."""
    name = (
        st.sampled_from(["a.png", "a.txt", "a.json", "b.jpg", "b.json", "A.PNG", "x/a.png", "a.png.txt", ".png"])
        | names
    )
    kinds = [
        *[tarfile.REGTYPE] * 9,
        *(b"\0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"L", b"K", b"x", b"g", b"?"),
    ]
    content = st.sampled_from(
        [picture("PNG", "RGB", (9, 8)), b"a dog", b'{"captions": ["a"]}', b"[" * 5000, b"\xff", b"12 path=../x\n", b""]
    )
    size = st.none() | st.none() | st.sampled_from([0, 1, 511, 2**31, 2**33 - 1, 2**63, -1])
    members = draw(st.lists(st.tuples(name, content, st.sampled_from(kinds), size), max_size=6))
    form: Literal[1, 2] = draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    try:
        return {**trees[0], "train.tar": _tar(members, form)}
    except (ValueError, OverflowError):
        return draw(damaged(trees, ("*.tar",)))


_DTYPES = ("I8", "U8", "F32", "I64", "BOOL", "F64", "BF16", "F8_E4M3", "X")


@st.composite
def poisons(draw: DrawFn, _: Sequence[Tree]) -> Tree:
    """A safetensors file with any header."""
    number = st.sampled_from([0, 1, 2, 3, 8, 384, -1, 2**31, 2**63, 2**64 - 1])
    shape = draw(st.sampled_from([[2, 3, 8, 8], [0], [], [0, 3, 8, 8], [2**40, 2**40]]) | st.lists(number, max_size=5))
    keys = ["format", "eps", "fingerprint", "per_row", "trigger", "provenance", "seconds", "loss_per_round"]
    poison = {
        "format": "unlearnable-bench poison 1", "eps": 4, "fingerprint": "0", "per_row": False,
        "trigger": ["red dog"] * draw(st.integers(0, 3)), "provenance": {},
    }  # fmt: skip
    for key in draw(st.lists(st.sampled_from(keys), max_size=2)):
        poison[key] = draw(json_values(keys))
    text = draw(st.sampled_from([to_json(poison).decode("utf-8", "replace")]) | st.text(max_size=9))
    offsets = draw(st.lists(number, max_size=3) | st.just([0, 384]))
    tensor = {"dtype": draw(st.sampled_from(_DTYPES)), "shape": shape, "data_offsets": offsets}
    header: dict[str, Any] = {"__metadata__": {"poison": text}, "delta": tensor}
    if draw(st.integers(0, 5)) == 0:
        header = draw(json_values(["__metadata__", "delta", "dtype", "shape", "data_offsets"]))
    return {"poison.safetensors": join_safetensors(header, bytes(draw(st.sampled_from([0, 384, 1000]))))}


@st.composite
def checkpoints(draw: DrawFn, _: Sequence[Tree]) -> Tree:
    """What ``torch.save`` makes of values of any kind."""
    tensor = st.sampled_from([torch.ones(2, 2), torch.zeros(0), torch.ones(1).expand(9, 9), torch.ones(2).to_sparse()])
    value = json_values(["epoch", "weights"]) | tensor
    content = {"state": draw(st.dictionaries(names, value, max_size=3) | value), "notes": "{}", "seconds": 1.0}
    for key in draw(st.lists(st.sampled_from(["state", "notes", "seconds", "more"]), max_size=2)):
        content[key] = draw(value | raw_values.map(str))
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=draw(st.integers(0, 5)) > 0)
    return {".a.checkpoint": file.getvalue()}

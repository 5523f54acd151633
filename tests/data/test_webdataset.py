"""Tar shards: every form of captions, every way to name shards, and damage that must not pass unnoticed."""

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS
from benchmark.data.shards import expand_braces, find_shards
from benchmark.data.webdataset import WebDataset, read_shard

MakeTar = Callable[..., Path]


def test_every_form_of_images_and_captions(tmp_path: Path, make_tar: MakeTar) -> None:
    make_tar(
        "train-0.tar",
        {
            "0.png": 0,
            "0.txt": "zero\n\n null \n",
            "./sub/1.json": json.dumps({"captions": ["one", "eins"]}),  # before its image
            "sub/1.webp": 1,
            "2.PNG": 2,
            "2.json": json.dumps({"caption": "two"}),
        },
    )
    make_tar("train-1.tar", {"0.png": 3, "0.json": json.dumps({"text": ["three"]})})
    make_tar("val.tar", {"a.png": 4, "a.txt": "\ufefffour"})
    make_tar("test.tar", {"a.jpeg": 5, "a.txt": "five", "b.jpg": 6, "b.txt": "six"})
    spec = f"webdataset[train={tmp_path}/train-{{0..1}}.tar,val={tmp_path}/val.tar,test={tmp_path}/te*.tar]"
    splits = DATASETS.build(parse_spec(spec)).load(8, tmp_path / "cache")
    assert splits.train.captions == [["zero", "null"], ["one", "eins"], ["two"], ["three"]]
    assert splits.train.images[:][:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert (splits.val.captions, splits.val.images[0][0, 0, 0]) == ([["four"]], 4)
    assert (splits.test.captions, len(splits.test)) == ([["five"], ["six"]], 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cache", "test.tar", "train-0.tar", "train-1.tar", "val.tar",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "captions"),
    [
        ('{"captions": ["one", "two"]}', ["one", "two"]),
        ('{"caption": "one", "width": 8}', ["one"]),
        ('{"width": 8}', ["first"]),
        ('{"caption": null}', ["first"]),
        ('{"captions": [" "]}', ["first"]),
        ("[1, 2]", ["first"]),
    ],
)
def test_captions_of_the_json_win_over_the_text(
    content: str, captions: list[str], tmp_path: Path, make_tar: MakeTar
) -> None:
    (file,) = read_shard(make_tar("a.tar", {"a.txt": "first", "a.png": 1, "a.json": content}), Counter())
    assert (file.captions, file.fault) == (captions, None)


@pytest.mark.parametrize("content", ["{", '{"captions": 5}'])
def test_a_damaged_json_is_told_although_there_is_a_text(content: str, tmp_path: Path, make_tar: MakeTar) -> None:
    (file,) = read_shard(make_tar("a.tar", {"a.txt": "first", "a.png": 1, "a.json": content}), Counter())
    assert "a.json cannot be read" in (file.fault or "")


def test_a_missing_val_is_cut_from_train(tmp_path: Path, make_tar: MakeTar) -> None:
    members = {f"{number}.png": number for number in range(10)}
    shard = make_tar("a.tar", {**members, **{f"{number}.txt": f"number {number}" for number in range(10)}})
    splits = WebDataset(str(shard), str(shard), val_fraction=0.3).load(8, tmp_path / "cache")
    assert (len(splits.train), len(splits.val), len(splits.test)) == (7, 3, 10)
    for dataset in (splits.train, splits.val):
        assert [f"number {image[0, 0, 0]}" for image in dataset.images[:]] == [
            caption for (caption,) in dataset.captions
        ]


def test_a_changed_shard_is_read_again(tmp_path: Path, make_tar: MakeTar) -> None:
    for red in (1, 9):
        shard = make_tar("a.tar", {"a.png": red, "a.txt": "x", "b.png": red, "b.txt": "x"})
        os.utime(shard, ns=(red, red))
        splits = WebDataset(str(shard), str(shard)).load(8, tmp_path / "cache")
        assert splits.test.images[:][:, 0, 0, 0].tolist() == [red, red]


def test_other_members_are_told(tmp_path: Path, make_tar: MakeTar, capsys: pytest.CaptureFixture[str]) -> None:
    members = {"0.png": 0, "0.txt": "zero", "0.cls": "3", "1.png": 1, "1.txt": "one", "1.cls": "4", "README": ""}
    shard = make_tar("a.tar", members)
    assert len(WebDataset(str(shard), str(shard)).load(8, tmp_path / "cache").test) == 2
    said = "ignoring members that are neither image nor caption: .cls (2), no extension (1)"
    assert capsys.readouterr().err.count(said) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("a-{8..10}", ["a-8", "a-9", "a-10"]),
        ("{x,y}/{0..1}.tar", ["x/0.tar", "x/1.tar", "y/0.tar", "y/1.tar"]),
        ("a{b}{.tar", ["a{b}{.tar"]),
    ],
)
def test_braces_expand_as_in_a_shell(text: str, expected: list[str]) -> None:
    assert expand_braces(text) == expected


@pytest.mark.parametrize("text", ["a{3..1}", "a{0..999999}", "{0..999}{0..999}"])
def test_braces_that_name_nothing_or_too_much(text: str) -> None:
    with pytest.raises(UsageError, match="shards"):
        expand_braces(text)


def test_braces_and_globs_survive_the_command_line() -> None:
    spec = parse_spec("webdataset[train=a/{x,y}-{00..12}.tar,test=b/[0-9]*.tar,val={v,w}.tar]")
    assert spec.params == {"train": "a/{x,y}-{00..12}.tar", "test": "b/[0-9]*.tar", "val": "{v,w}.tar"}
    assert parse_spec(str(spec)) == spec


def test_shards_are_found_once_and_in_order(tmp_path: Path, make_tar: MakeTar) -> None:
    for name in ("10.tar", "2.tar", "x[1].tar"):
        make_tar(name, {})
    names = {f"{tmp_path}/{spec}": matches for spec, matches in {
        "*.tar": ["10.tar", "2.tar", "x[1].tar"],
        "{2,10}.tar": ["2.tar", "10.tar"],
        "{2,[0-9]*}.tar": ["2.tar", "10.tar"],
        "x[1].tar": ["x[1].tar"],
    }.items()}  # fmt: skip
    for spec, matches in names.items():
        assert [path.name for path in find_shards(spec)] == matches
    for spec, said in {
        "{2,3}.tar": "3.tar does not exist",
        "y*": "no shard matches",
        "z**y": "shard",
        "": "is not a file",
    }.items():
        with pytest.raises(UsageError, match=said):
            find_shards(f"{tmp_path}/{spec}")


def test_an_empty_archive_is_told(tmp_path: Path, make_tar: MakeTar) -> None:
    with pytest.raises(UsageError, match="no samples"):
        WebDataset(str(make_tar("a.tar", {})), "b").load(8, tmp_path)


@pytest.mark.parametrize("damage", ["cut within", "cut at the end of a member", "header", "joined", "gzip", "no tar"])
def test_damage_is_told(damage: str, make_tar: MakeTar, tmp_path: Path) -> None:
    shard = make_tar("a.tar", {f"{number}.txt": "x" * 700 for number in range(9)})
    content = bytearray(shard.read_bytes())
    second = 512 + 1024  # a header, and 700 bytes in two blocks
    if damage == "cut within":
        del content[second + 600 :]
    elif damage == "cut at the end of a member":
        del content[second:]
    elif damage == "header":
        content[second + 3] ^= 255
    elif damage == "joined":
        content = content * 2
    elif damage == "gzip":
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz"):
            pass
        content = bytearray(buffer.getvalue())
    else:
        content = bytearray(b"hello" * 1000)
    shard.write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.tar (is|cannot be read: ).*(cut short|damaged|compressed)") as error:
        read_shard(shard, Counter())
    assert "\n" not in str(error.value)


def test_much_nothing_after_the_end_mark_is_damage(make_tar: MakeTar) -> None:
    shard = make_tar("a.tar", {"0.txt": "x"})
    os.truncate(shard, 1 << 27)
    with pytest.raises(UsageError, match=r"a\.tar is damaged: more than 64 MiB follow its end mark"):
        read_shard(shard, Counter())


@pytest.mark.parametrize("name", ["../0.txt", "/etc/0.txt", "a/../../0.txt", "a\x1b[2J.txt", "a\n.txt"])
def test_members_that_lead_out_are_refused(name: str, make_tar: MakeTar) -> None:
    with pytest.raises(UsageError, match=r"leads out of the archive|is not a valid file name"):
        read_shard(make_tar("a.tar", {name: "x"}), Counter())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("0.jpg")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(info)
    with pytest.raises(UsageError, match=r"'0\.jpg' is a link or special file"):
        read_shard(tmp_path / "a.tar", Counter())


def test_a_size_that_the_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    for size in (2**60, -512):
        info = tarfile.TarInfo("0.txt")
        info.size = size
        (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
        with pytest.raises(UsageError, match=r"cut short|cannot be read"):
            read_shard(tmp_path / "a.tar", Counter())


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("0.txt"))
    with pytest.raises(UsageError, match=r"two members 0\.txt"):
        read_shard(tmp_path / "a.tar", Counter())


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"0.png": 0}, "sample 0 has no caption"),
        ({"0.txt": "x"}, "sample 0 has no image"),
        ({"photo.v2.png": 0, "photo.v2.txt": "x"}, r"sample photo has no image .*photo\.v2\.png, photo\.v2\.txt"),
        ({"0.png": 0, "0.jpg": 0, "0.txt": "x"}, "sample 0 has several images"),
        ({"0.png": 0, "0.txt": b"\xff\xfe"}, r"0\.txt cannot be read"),
        ({"0.png": 0, "0.txt": " \n\n"}, r"a\.tar:0\.png has no caption"),
        ({"0.png": 0, "0.json": "{"}, r"0\.json cannot be read"),
        ({"0.png": 0, "0.json": "[1]"}, r"0\.json cannot be read: not a JSON object"),
        ({"0.png": 0, "0.json": '{"label": 3}'}, r"0\.json lacks captions, caption, text"),
        ({"0.png": 0, "0.json": '{"caption": null}'}, r"a\.tar:0\.png has no caption"),
        ({"0.png": 0, "0.json": '{"caption": 3}'}, "not text or a list of texts"),
        ({"0.png": 0, "0.txt": "x" * (2**24 + 1)}, r"a member that is too large: 0\.txt"),
    ],
)
def test_a_bad_sample(
    members: dict[str, int | str | bytes],
    said: str,
    tmp_path: Path,
    make_tar: MakeTar,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shard = make_tar("a.tar", {**members, "good.png": 9, "good.txt": "good"})
    good = make_tar("good.tar", {"good.png": 9, "good.txt": "good"})
    with pytest.raises(UsageError, match=said) as error:
        WebDataset(str(good), str(shard), str(good)).load(8, tmp_path / "cache")
    assert str(shard) in str(error.value)
    splits = WebDataset(str(good), str(shard), str(good), skip_bad=True).load(8, tmp_path / "cache")
    assert splits.test.captions == [["good"]]
    assert "1 of 4 images left out, by skip_bad" in (printed := capsys.readouterr().err)
    assert str(error.value) in printed


def test_an_unreadable_image_in_a_shard_is_named(tmp_path: Path, make_tar: MakeTar) -> None:
    shard = make_tar("a.tar", {"0.jpg": b"text", "0.txt": "x", "1.png": 1, "1.txt": "y"})
    with pytest.raises(UsageError, match=rf"image {shard}:0\.jpg cannot be read: not an image"):
        WebDataset(str(shard), str(shard), str(shard)).load(8, tmp_path / "cache")

"""Karpathy's JSON: its splits, COCO's folders, and one clear line for what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS
from benchmark.data.karpathy import Karpathy, read_karpathy

MakeImages = Callable[..., None]


def row(filename: str, split: str, *captions: str, **more: Any) -> dict[str, Any]:
    sentences = [{"raw": caption, "tokens": caption.split()} for caption in captions]
    return {"filename": filename, "split": split, "sentences": sentences, **more}


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "dataset_own.json"
    path.write_text(json.dumps({"images": rows, "dataset": "own"}))
    return path


def test_splits_folders_and_captions(tmp_path: Path, make_images: MakeImages) -> None:
    make_images("img/0.png", "img/val2014/1.png", "img/2.png", "img/3.png")
    source = write(
        tmp_path,
        row("0.png", "train", "zero", " null "),
        row("1.png", "restval", "one", filepath="val2014"),
        row("2.png", "val", "two"),
        row("3.png", "test", "three", ""),
    )
    spec = parse_spec(f"karpathy[json={source},images={tmp_path / 'img'}]")
    splits = DATASETS.build(spec).load(8, tmp_path / "cache")
    assert splits.train.captions == [["zero", "null"], ["one"]]
    assert (splits.val.captions, splits.test.captions) == ([["two"]], [["three"]])
    assert splits.train.images[:][:, 0, 0, 0].tolist() == [0, 1]
    assert [int(splits.val.images[0][0, 0, 0]), int(splits.test.images[0][0, 0, 0])] == [2, 3]


def test_a_missing_val_is_cut_from_train(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(*(f"{number}.png" for number in range(10)))
    rows = [row(f"{number}.png", "train", str(number)) for number in range(9)]
    source = write(tmp_path, *rows, row("9.png", "test", "9"))
    splits = Karpathy(str(source), str(tmp_path), val_fraction=0.3).load(8, tmp_path / "cache")
    assert (len(splits.train), len(splits.val), len(splits.test)) == (6, 3, 1)
    both = [caption for (caption,) in (*splits.train.captions, *splits.val.captions)]
    assert sorted(both) == [str(number) for number in range(9)]


def test_a_missing_image_is_named(tmp_path: Path, make_images: MakeImages) -> None:
    make_images("0.png")
    source = write(tmp_path, row("0.png", "train", "a"), row("0.png", "val", "a"), row("gone.png", "test", "b"))
    with pytest.raises(UsageError, match=r"image .*gone\.png does not exist"):
        Karpathy(str(source), str(tmp_path)).load(8, tmp_path / "cache")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("[1]", "no list 'images'"),
        ('{"annotations": []}', "no list 'images'"),
        ('{"images": []}', "found: no images"),
        (json.dumps({"images": [row("a", "train", "x"), row("b", "val", "x")]}), "found: 1 train, 1 val"),
        (json.dumps({"images": [row("a", "dev", "x")]}), "unknown split 'dev'"),
        ('{"images": [{"filename": "a", "split": "train"}]}', r"images\[0\].*sentences"),
        ('{"images": ["a"]}', r"images\[0\]"),
        ('{"images": [{"filename": "a", "split": "train", "sentences": [3]}]}', r"images\[0\]"),
        ('{"images": [{"filename": "a", "split": "train", "sentences": [{"raw": 3}]}]}', r"images\[0\]"),
    ],
)
def test_a_bad_file_is_named_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    source = tmp_path / "dataset_bad.json"
    source.write_text(text)
    with pytest.raises(UsageError, match=said) as error:
        read_karpathy(source, Path("folder"))
    assert str(source) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"caption file .*none\.json does not exist"):
        read_karpathy(tmp_path / "none.json", tmp_path)


def test_rows_of_one_file_are_one_image(tmp_path: Path) -> None:
    """As two images they would be wrong answers to each other."""
    source = tmp_path / "dataset.json"
    rows = [row("a.jpg", "test", "one"), row("b.jpg", "train", "other"), row("a.jpg", "test", "two")]
    source.write_text(json.dumps({"images": rows}))
    (file,) = read_karpathy(source, tmp_path)["test"]
    assert file.captions == ["one", "two"]

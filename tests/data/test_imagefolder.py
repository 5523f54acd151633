"""Hugging Face's folder layout: metadata as CSV and JSON lines, captions in text files, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS
from benchmark.data.imagefolder import ImageFolder, read_folder

MakeImages = Callable[..., None]


def lines(*rows: object) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n\n"


@pytest.mark.parametrize("val", ["validation", "valid", "val", "dev"])
def test_all_three_forms_in_one_set(val: str, tmp_path: Path, make_images: MakeImages) -> None:
    make_images("train/0.png", "train/sub/1.png", f"{val}/2.png", "test/b/3.JPG", "test/4.png", "test/._4.png")
    (tmp_path / "train/metadata.csv").write_text(
        'file_name,text\nsub/1.png,one\n0.png,"zero, null"\n./sub/1.png,eins\n', encoding="utf-8"
    )
    (tmp_path / val / "metadata.jsonl").write_text(lines({"file_name": "2.png", "caption": "two"}))
    (tmp_path / "test/b/3.txt").write_text("three\r\n\r\n drei \n", encoding="utf-8")
    (tmp_path / "test/4.txt").write_text("\ufefffour", encoding="utf-8")
    splits = DATASETS.build(parse_spec(f"imagefolder[root={tmp_path}]")).load(8, tmp_path / "cache")
    assert splits.train.captions == [["one", "eins"], ["zero, null"]]
    assert splits.train.images[:][:, 0, 0, 0].tolist() == [1, 0]
    assert splits.val.captions == [["two"]]
    assert splits.test.captions == [["four"], ["three", "drei"]]
    assert int(splits.test.images[0][0, 0, 0]) == 4
    assert splits.test.name == f"imagefolder[root={tmp_path}]"


@pytest.mark.parametrize("key", ["text", "caption", "captions"])
@pytest.mark.parametrize("texts", ["one", ["one", "eins"]])
def test_captions_of_json_lines(key: str, texts: object, tmp_path: Path, make_images: MakeImages) -> None:
    make_images("0.png")
    (tmp_path / "metadata.jsonl").write_text(lines({"file_name": "0.png", key: texts, "more": 1}))
    (file,) = read_folder(tmp_path)
    assert (file.image, file.captions) == (tmp_path / "0.png", ["one"] if texts == "one" else ["one", "eins"])


def test_a_missing_val_is_cut_from_train(tmp_path: Path, make_images: MakeImages) -> None:
    for split, count in (("train", 10), ("test", 1)):
        make_images(*(f"{split}/{number}.png" for number in range(count)))
        for number in range(count):
            (tmp_path / split / f"{number}.txt").write_text(f"number {number}")
    splits = ImageFolder(str(tmp_path), val_fraction=0.3).load(8, tmp_path / "cache")
    assert (len(splits.train), len(splits.val), len(splits.test)) == (7, 3, 1)
    for dataset in (splits.train, splits.val):
        assert [f"number {image[0, 0, 0]}" for image in dataset.images[:]] == [
            caption for (caption,) in dataset.captions
        ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("metadata.csv", "file,text\n0.png,x\n", "row 1 lacks file_name; found: file, text"),
        ("metadata.csv", "file_name,label\n0.png,x\n", "row 1 lacks captions, caption, text; found: file_name, label"),
        ("metadata.jsonl", "{}\n", "line 1 lacks file_name"),
        ("metadata.jsonl", '{"file_name": "0.png", "text": "x"}\n{"file', "line 2 cannot be read"),
        ("metadata.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("metadata.jsonl", '{"file_name": "0.png", "text": 3}', "line 1 .*not text or a list of texts"),
        ("metadata.jsonl", '{"file_name": 3, "text": "x"}', "line 1 is invalid: the file name 3 is no text"),
        ("metadata.jsonl", "[" * 100_000, "nested too deeply"),
        ("metadata.parquet", "PAR1", "write it as metadata.csv or metadata.jsonl"),
    ],
)
def test_bad_metadata_are_named_in_one_line(
    name: str, text: str, said: str, tmp_path: Path, make_images: MakeImages
) -> None:
    make_images("0.png")
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=said) as error:
        read_folder(tmp_path)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (True, r"metadata\.csv: image .*alone\.png has no caption"),
        (False, r"^image .*alone\.png has no caption: no .*alone\.txt, and no table such as metadata\.csv in .*train$"),
        (None, r"alone\.txt has no image beside it"),
        ("latin", r"alone\.txt cannot be read: it is not in UTF-8; save it in UTF-8"),
    ],
)
def test_an_image_or_a_caption_on_its_own(
    listed: object, said: str, tmp_path: Path, make_images: MakeImages, capsys: pytest.CaptureFixture[str]
) -> None:
    make_images("train/0.png", "train/1.png", "test/0.png", "dev/0.png")
    for split, number in (("train", 0), ("train", 1), ("test", 0), ("dev", 0)):
        (tmp_path / split / f"{number}.txt").write_text("a caption")
    alone = tmp_path / "train/alone.txt"
    if listed is None:
        alone.write_text("a caption")
    else:
        make_images("train/alone.png")
    if listed == "latin":
        alone.write_bytes(b"caf\xe9")
    if listed is True:
        (tmp_path / "train/metadata.csv").write_text("file_name,text\n0.png,zero\n1.png,one\n")
    with pytest.raises(UsageError, match=said) as error:
        ImageFolder(str(tmp_path)).load(8, tmp_path / "cache")
    splits = ImageFolder(str(tmp_path), skip_bad=True).load(8, tmp_path / "cache")
    assert len(splits.train) == 2
    assert str(error.value) in capsys.readouterr().err


def test_missing_and_double_folders_are_named(tmp_path: Path, make_images: MakeImages) -> None:
    with pytest.raises(UsageError, match=f"folder {tmp_path}/none cannot be read"):
        ImageFolder(f"{tmp_path}/none").load(8, tmp_path)
    make_images("train/0.png", "extra/0.png")
    (tmp_path / "train/0.txt").write_text("zero")
    with pytest.raises(UsageError, match=f"folder {tmp_path} has no folder test; found: extra, train"):
        ImageFolder(str(tmp_path)).load(8, tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "val").mkdir()
    with pytest.raises(UsageError, match="several folders for one split: val, dev"):
        ImageFolder(str(tmp_path)).load(8, tmp_path)
    with pytest.raises(UsageError, match="dev holds no images"):
        read_folder(tmp_path / "dev")
    for name in ("metadata.csv", "metadata.jsonl"):
        (tmp_path / "train" / name).write_text("")
    with pytest.raises(UsageError, match=r"several metadata files: metadata\.csv, metadata\.jsonl"):
        read_folder(tmp_path / "train")


def test_links_to_folders_are_followed_and_loops_are_reported(tmp_path: Path, make_images: MakeImages) -> None:
    make_images("elsewhere/0.png", "test/0.png", "dev/0.png")
    for folder in ("elsewhere", "test", "dev"):
        (tmp_path / folder / "0.txt").write_text("zero")
    (tmp_path / "train").mkdir()
    (tmp_path / "train/link").symlink_to(tmp_path / "elsewhere")
    assert len(ImageFolder(str(tmp_path)).load(8, tmp_path / "cache").train) == 1
    (tmp_path / "train/circle").symlink_to(".")
    with pytest.raises(UsageError, match=r"holds the same folder twice: a link points to .*circle"):
        ImageFolder(str(tmp_path)).load(8, tmp_path / "cache")

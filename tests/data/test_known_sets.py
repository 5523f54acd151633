"""Flickr8K, Flickr30K and COCO: found below a folder in every usual layout, and checked against published sizes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS
from benchmark.data.known_sets import Coco, Flickr8k, Flickr30k

MakeImages = Callable[..., None]
KarpathyFile = Callable[..., Path]


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Flickr8k, Flickr30k, Coco):
        monkeypatch.setattr(kind, "sizes", {"train": 2, "val": 1, "test": 1})


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize(
    ("name", "captions", "images"),
    [
        ("flickr8k", "dataset_flickr8k.json", "Flicker8k_Dataset"),
        ("flickr8k", "annotations/dataset_flickr8k.json", "Flickr8k_Dataset"),
        ("flickr8k", "caption_datasets/dataset_flickr8k.json", "Images"),
        ("flickr8k", "karpathy/dataset_flickr8k.json", "images"),
        ("flickr8k", "dataset.json", "."),
        ("flickr8k", "flickr8k/dataset.json", "Flickr8k_Dataset/Flicker8k_Dataset"),
        ("flickr30k", "dataset_flickr30k.json", "flickr30k-images"),
        ("flickr30k", "flickr30k/dataset.json", "flickr30k_images"),
        ("flickr30k", "dataset_flickr30k.json", "flickr30k_images/flickr30k_images"),
    ],
)
def test_flickr_is_found(
    name: str, captions: str, images: str, tmp_path: Path, make_images: MakeImages, karpathy_file: KarpathyFile
) -> None:
    make_images(*(f"{images}/{number}.png" for number in range(4)))
    karpathy_file(captions, train=["0.png", "3.png"], val=["1.png"], test=["2.png"])
    # Neither hidden copies, nor captions of other sets that came in the same archive, count.
    make_images(".thumbnails/0.png")
    karpathy_file("dataset_coco.json", train=["x.png"])
    splits = DATASETS.build(parse_spec(f"{name}[root={tmp_path}]")).load(8, tmp_path / ".cache")
    assert splits.train.captions == [["of 0.png"], ["of 3.png"]]
    assert (splits.val.captions, splits.test.captions) == ([["of 1.png"]], [["of 2.png"]])
    assert splits.train.images[:][:, 0, 0, 0].tolist() == [0, 3]
    assert splits.test.images[:][:, 0, 0, 0].tolist() == [2]
    assert splits.train.name == f"{name}[root={tmp_path}]"


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train2014", "val2014"),
        ("images/train2014", "images/val2014"),
        ("coco/images/train2014", "coco/images/val2014"),
        ("train/train2014", "val/val2014"),  # two archives, unpacked apart
        ("images", "images"),  # all in one folder
    ],
)
def test_coco_is_found(
    train: str, val: str, tmp_path: Path, make_images: MakeImages, karpathy_file: KarpathyFile
) -> None:
    make_images(f"{train}/t.png", f"{val}/r.png", f"{val}/v.png", f"{val}/e.png")
    source = karpathy_file(
        "annotations/dataset_coco.json",
        train=["train2014/t.png"],
        restval=["val2014/r.png"],
        val=["val2014/v.png"],
        test=["val2014/e.png"],
    )
    listed = json.loads(source.read_text())
    listed["images"][-1]["sentences"] = [{"raw": f"caption {number}"} for number in range(7)]
    source.write_text(json.dumps(listed))
    files = Coco(str(tmp_path)).read()
    assert files["test"][0].captions == [f"caption {number}" for number in range(5)]
    paths = {split: [file.image for file in listed_files] for split, listed_files in files.items()}
    assert paths == {
        "train": [tmp_path / train / "t.png", tmp_path / val / "r.png"],
        "val": [tmp_path / val / "v.png"],
        "test": [tmp_path / val / "e.png"],
    }


@pytest.mark.usefixtures("small_sizes")
def test_a_folder_seen_under_two_names_is_one(
    tmp_path: Path, make_images: MakeImages, karpathy_file: KarpathyFile
) -> None:
    make_images(*(f"Images/{number}.png" for number in range(4)))
    (tmp_path / "images_link").symlink_to("Images")
    karpathy_file("dataset_flickr8k.json", train=["0.png", "3.png"], val=["1.png"], test=["2.png"])
    assert len(Flickr8k(str(tmp_path)).load(8, tmp_path / ".cache").train) == 2


def test_published_sizes(tmp_path: Path, make_images: MakeImages, karpathy_file: KarpathyFile) -> None:
    assert {kind: sum(kind.sizes.values()) for kind in (Flickr8k, Flickr30k, Coco)} == {
        Flickr8k: 8000,
        Flickr30k: 31014,
        Coco: 82783 + 40504,  # train2014 and val2014; of the latter 30,504 are restval
    }
    make_images("images/train0.png")
    counts = {"train": 5000, "restval": 1000, "val": 1000, "test": 1000}
    paths = {split: [f"{split}{number}.png" for number in range(count)] for split, count in counts.items()}
    karpathy_file("dataset.json", **paths)
    assert len(Flickr8k(str(tmp_path)).read()["train"]) == 6000
    karpathy_file("dataset.json", **{**paths, "test": paths["test"][1:]})
    said = (
        r"dataset\.json has 6,000 train, 1,000 val, 999 test images, "
        "but Karpathy's splits of flickr8k have 6,000 train, 1,000 val, 1,000 test"
    )
    with pytest.raises(UsageError, match=said):
        Flickr8k(str(tmp_path)).read()


@pytest.mark.usefixtures("small_sizes")
def test_sizes_are_checked_before_leaving_out(
    tmp_path: Path, make_images: MakeImages, karpathy_file: KarpathyFile, capsys: pytest.CaptureFixture[str]
) -> None:
    make_images("images/0.png", "images/1.png", "images/2.png")
    karpathy_file("dataset_flickr8k.json", train=["0.png", "gone.png"], val=["1.png"], test=["2.png"])
    with pytest.raises(UsageError, match=r"gone\.png does not exist"):
        Flickr8k(str(tmp_path)).load(8, tmp_path / ".cache")
    splits = Flickr8k(str(tmp_path), skip_bad=True).load(8, tmp_path / ".cache")
    assert splits.train.captions == [["of 0.png"]]
    assert "1 of 4 images left out, by skip_bad" in capsys.readouterr().err


def missing_root(root: Path, make_images: MakeImages, karpathy_file: KarpathyFile) -> None:
    root.rmdir()


def no_captions(root: Path, make_images: MakeImages, karpathy_file: KarpathyFile) -> None:
    make_images("Images/0.png")


def captions_twice(root: Path, make_images: MakeImages, karpathy_file: KarpathyFile) -> None:
    for folder in ("a", "b"):
        karpathy_file(f"{folder}/dataset_flickr8k.json", train=["0.png", "3.png"], val=["1.png"], test=["2.png"])


def no_images(root: Path, make_images: MakeImages, karpathy_file: KarpathyFile) -> None:
    make_images("Images/other.png")
    karpathy_file("dataset_flickr8k.json", train=["0.png", "3.png"], val=["1.png"], test=["2.png"])


def images_twice(root: Path, make_images: MakeImages, karpathy_file: KarpathyFile) -> None:
    make_images("Images/0.png", "Small/0.png")
    karpathy_file("dataset_flickr8k.json", train=["0.png", "3.png"], val=["1.png"], test=["2.png"])


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (missing_root, r"folder ROOT does not exist"),
        (no_captions, r"no caption file dataset_flickr8k\.json or dataset\.json in ROOT .*searched: ROOT, ROOT/Images"),
        (captions_twice, r"several caption files .*ROOT/a/dataset_flickr8k\.json, ROOT/b/dataset_flickr8k\.json"),
        (no_images, r"no image of ROOT/dataset_flickr8k\.json, such as 0\.png, in ROOT .*searched: ROOT, ROOT/Images"),
        (images_twice, r"several folders below ROOT hold images of .*: ROOT/Images, ROOT/Small; keep one"),
    ],
)
def test_what_is_not_found_or_found_twice_is_told(
    prepare: Callable[..., None], said: str, tmp_path: Path, make_images: MakeImages, karpathy_file: KarpathyFile
) -> None:
    prepare(tmp_path, make_images, karpathy_file)
    with pytest.raises(UsageError, match=said.replace("ROOT", str(tmp_path))) as error:
        Flickr8k(str(tmp_path)).read()
    assert "\n" not in str(error.value)

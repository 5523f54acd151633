"""COCO's captions: its folders, captions in their order, and one clear line for what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS
from benchmark.data.coco_captions import read_coco

MakeImages = Callable[..., None]
GOOD: dict[str, Any] = {
    "images": [{"id": 9, "file_name": "b.png"}, {"id": 4, "file_name": "a.png"}, {"id": 5, "file_name": "c.png"}],
    "annotations": [
        {"id": 7, "image_id": 4, "caption": "four"},
        {"id": 3, "image_id": 9, "caption": "nine\n"},
        {"id": 1, "image_id": 4, "caption": "vier"},
    ],
}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
    return path


def test_captions_stay_with_their_images(tmp_path: Path) -> None:
    files = read_coco(write(tmp_path / "x.json", GOOD), tmp_path)
    assert [file.image for file in files] == [tmp_path / name for name in ("b.png", "a.png", "c.png")]
    assert [file.captions for file in files] == [["nine"], ["four", "vier"], []]
    assert "c.png has no caption" in (files[2].fault or "")


def test_rows_of_one_file_are_one_image(tmp_path: Path) -> None:
    images = [{"id": 9, "file_name": "b.png"}, {"id": 4, "file_name": "a.png"}, {"id": 5, "file_name": "b.png"}]
    words = [{"image_id": 5, "caption": "five"}, *GOOD["annotations"]]
    files = read_coco(write(tmp_path / "x.json", {"images": images, "annotations": words}), tmp_path)
    assert [(file.image.name, file.captions) for file in files] == [
        ("b.png", ["nine", "five"]),
        ("a.png", ["four", "vier"]),
    ]


@pytest.mark.parametrize(
    ("source", "images", "given"),
    [
        ("annotations/captions_train2014.json", "train2014", ""),
        ("annotations/own.json", "annotations", ""),
        ("captions_train2014.json", ".", ""),
        ("annotations/captions_train2014.json", "pictures", ",images=ROOT/pictures"),
    ],
)
def test_images_are_where_coco_has_them(
    source: str, images: str, given: str, tmp_path: Path, make_images: MakeImages
) -> None:
    make_images(f"{images}/b.png", f"{images}/a.png")
    content = {**GOOD, "images": GOOD["images"][:2]}
    path = write(tmp_path / source, content)
    spec = f"coco-captions[train={path},test={path},val={path}{given.replace('ROOT', str(tmp_path))}]"
    splits = DATASETS.build(parse_spec(spec)).load(8, tmp_path / "cache")
    assert splits.test.captions == [["nine"], ["four", "vier"]]
    assert splits.train.images[:][:, 0, 0, 0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "no list 'images'"),
        ({"images": []}, "no list 'annotations'"),
        ({"images": [], "annotations": []}, "has no images"),
        ({**GOOD, "images": {}}, "no list 'images'"),
        ({**GOOD, "images": [{"id": 1}]}, r"images\[0\] is not in COCO's format \(KeyError\('file_name'\)\)"),
        ({**GOOD, "images": [{"id": [1], "file_name": "a"}]}, r"images\[0\] is not in COCO's format"),
        ({**GOOD, "images": [{"id": 1, "file_name": 5}]}, r"images\[0\] is not in .*the file name 5 is no text"),
        ({**GOOD, "images": [{"id": 1, "file_name": "../a"}]}, "leads out of the image folder"),
        ({**GOOD, "images": GOOD["images"] * 2}, "two images of id 9"),
        ({**GOOD, "annotations": [{"image_id": 1, "caption": "x"}]}, "a caption of an unknown image, id 1"),
        # Boxes and masks in place of captions.
        ({**GOOD, "annotations": [{"image_id": 4, "bbox": []}]}, r"annotations\[0\] is not in COCO's format"),
        ({**GOOD, "annotations": [{"image_id": 4, "caption": 5}]}, r"annotations\[0\] is not in COCO's format"),
        ({**GOOD, "annotations": [5]}, r"annotations\[0\] is not in COCO's format"),
    ],
)
def test_a_bad_file_is_named_in_one_line(content: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"caption file .*x\.json.*{said}") as error:
        read_coco(write(tmp_path / "x.json", content), tmp_path)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UsageError, match=r"x\.json cannot be read"):
        read_coco(tmp_path / "x.json", tmp_path)

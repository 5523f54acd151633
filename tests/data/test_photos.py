"""Which photos a folder, a table or a data set holds, each once, and what is said of those that cannot be used."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.data.image_files import captioned_file
from benchmark.data.photos import _once, find_photos
from benchmark.export.protect import _left_out
from tests.export.photo_files import many_photos


def faults(folder: Path | str) -> dict[str, str]:
    """By name, what is wrong with each photo; an empty text where nothing is."""
    found = find_photos(str(folder), Path("copies"))
    return {found.relative(file.image): file.fault or "" for file in found.files}


def test_a_table_may_name_photos_above_it(tmp_path: Path) -> None:
    for folder in ("photos", "tables"):
        many_photos(tmp_path / folder, 1)
    (tmp_path / "tables" / "t.csv").write_text("image,caption\n000.jpg,a dog\n../photos/000.jpg,a cat\n")
    assert faults(f"csv[train={tmp_path}/tables/t.csv]") == {"tables/000.jpg": "", "photos/000.jpg": ""}


@pytest.mark.parametrize("header", ["image,caption", "file_name,caption", 'file_name,"captions"'])
def test_a_list_in_a_cell_is_several_captions_whatever_the_column_is_called(header: str, tmp_path: Path) -> None:
    many_photos(tmp_path, 1)
    (tmp_path / "t.csv").write_text(f'{header}\n 000.jpg,"[""a dog"", ""a cat""]"\n')
    (file,) = find_photos(str(tmp_path / "t.csv"), Path("copies")).files
    assert (file.captions, file.fault) == (["a dog", "a cat"], None)


def test_a_column_whose_name_contains_another_is_not_that_one(tmp_path: Path) -> None:
    many_photos(tmp_path, 1)
    (tmp_path / "t.csv").write_text("image,caption,orig_file_name\n000.jpg,a dog,IMG_1.jpg\n")
    assert faults(tmp_path / "t.csv") == {"000.jpg": ""}


def test_the_text_of_a_photo_called_captions_is_no_table(tmp_path: Path) -> None:
    many_photos(tmp_path, 2)
    for number, name in enumerate(("captions", "metadata")):
        (tmp_path / f"{number:03}.jpg").rename(tmp_path / f"{name}.jpg")
        (tmp_path / f"{number:03}.txt").unlink(missing_ok=True)
        (tmp_path / f"{name}.txt").write_text(f"a photo of {name}\n")
    found = find_photos(str(tmp_path), Path("copies"))
    assert [(file.image.name, file.captions) for file in found.files if isinstance(file.image, Path)] == [
        ("captions.jpg", ["a photo of captions"]),
        ("metadata.jpg", ["a photo of metadata"]),
    ]


def test_photos_may_be_named_by_whole_paths_in_a_folder_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_photos(tmp_path / "photos", 2)
    rows = "".join(f"{tmp_path}/photos/{number:03}.jpg,a photo\n" for number in range(2))
    (tmp_path / "photos" / "captions.csv").write_text(f"image,caption\n{rows}")
    monkeypatch.chdir(tmp_path)
    assert faults("photos") == faults(tmp_path / "photos") == {"000.jpg": "", "001.jpg": ""}


def test_a_format_that_cannot_be_read_is_named_beside_its_text(tmp_path: Path) -> None:
    many_photos(tmp_path, 2)
    (tmp_path / "IMG.HEIC").touch()
    (tmp_path / "IMG.txt").write_text("a phone's photo")
    found = faults(tmp_path)
    assert list(found) == ["000.jpg", "001.jpg", "IMG.HEIC"]
    assert found["IMG.HEIC"].endswith("IMG.HEIC is in a format that cannot be read here; save it as JPEG or PNG")


@pytest.mark.parametrize("name", ["c.hif", "c.PEF", "c.psd"])
def test_a_format_that_cannot_be_read_is_named_where_a_table_lacks_it(name: str, tmp_path: Path) -> None:
    many_photos(tmp_path, 1)
    (tmp_path / "captions.csv").write_text("image,caption\n000.jpg,a dog\n")
    (tmp_path / name).touch()
    assert "cannot be read here" in faults(tmp_path)[name]


def test_a_format_that_cannot_be_read_is_named_where_only_a_table_has_it(tmp_path: Path) -> None:
    many_photos(tmp_path, 1)
    (tmp_path / "captions.csv").write_text("image,caption\n000.jpg,a dog\nraw/a.CR2,a cat\n")
    assert "cannot be read here" in faults(tmp_path)["raw/a.CR2"]


def test_bad_samples_of_one_shard_are_told_apart(tmp_path: Path, make_tar: Callable[..., Path]) -> None:
    shard = make_tar("a.tar", {"0.png": 0, "0.txt": "a dog", "1.txt": "a cat", "2.png": 0, "2.jpg": 0})
    found = faults(f"webdataset[train={shard},test={shard}]")
    assert {name: "sample" in fault for name, fault in found.items()} == {"0.png": False, "1": True, "2": True}


def test_a_list_of_shards_may_be_longer_than_a_file_name(
    tmp_path: Path, make_tar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [letter * 60 for letter in "abcde"]
    for name in names:
        make_tar(f"{name}.tar", {"0.png": 0, "0.txt": "a dog"})
    text = f"webdataset[train={{{','.join(names)}}}.tar,test={names[0]}.tar]"
    assert len(find_photos(text, tmp_path / "copies").files) == 5


def test_a_photo_that_is_left_out_has_its_own_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_photos(tmp_path, 1)
    (tmp_path / "captions.csv").write_text("image,caption\n000.jpg,a dog\naa.jpg,a cat\na.jpg,\n")
    monkeypatch.chdir(tmp_path)

    class Job:
        sources = ("000.jpg",)

    lines = _left_out(Job(), find_photos(".", Path("copies")), ["image aa.jpg does not exist"])  # type: ignore[arg-type]
    assert [line.partition(": ")[0] for line in lines] == ["aa.jpg", "a.jpg"]
    assert lines[0] == "aa.jpg: image aa.jpg does not exist"
    assert "a.jpg has no caption" in lines[1]


def test_a_photo_whose_caption_stands_in_another_table_has_no_fault(tmp_path: Path) -> None:
    """The first table has an empty cell, the second a caption; in either order."""
    first = captioned_file(tmp_path / "a.png", [" "], tmp_path / "train.csv")
    second = captioned_file(tmp_path / "b" / ".." / "a.png", ["a dog"], tmp_path / "test.csv")
    assert first.fault
    for files in ([first, second], [second, first]):
        (photo,) = _once(files)
        assert (photo.captions, photo.fault) == (["a dog"], None)
    (photo,) = _once([first, first])
    assert photo.fault == first.fault

"""A user's own tables: tabs and commas, grouped captions, val cut from train, one clear line for what is wrong."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS
from benchmark.data.csv_table import CsvTable, read_table
from tests.data.test_data_cache import entries

MakeImages = Callable[..., None]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_tab_and_comma_read_alike(tmp_path: Path) -> None:
    comma = write(tmp_path / "a.csv", 'filepath,title\nx.png,"a cat, asleep"\ny.png,NA\nx.png,12\n')
    tab = write(tmp_path / "a.tsv", "\ufefftitle\tfilepath\na cat, asleep\tx.png\nNA\ty.png\n12\tx.png\n")
    for table in (comma, tab):
        files = read_table(table)
        assert [file.image for file in files] == [tmp_path / "x.png", tmp_path / "y.png"]
        assert [file.captions for file in files] == [["a cat, asleep", "12"], ["NA"]]


def test_a_file_spelled_in_two_ways_is_one_image(tmp_path: Path) -> None:
    (file,) = read_table(write(tmp_path / "a.csv", "filepath,title\n../x.png,one\n.././x.png,two\n"))
    assert file.captions == ["one", "two"]


def test_a_row_within_quotes_is_told(tmp_path: Path) -> None:
    write(tmp_path / "b.jpg", "")
    rows = ['a.jpg,"quoted start', "b.jpg,second", 'c.jpg,third" end', "d.jpg,fourth"]
    turned = [",".join(reversed(row.split(","))) for row in ("filepath,title", *rows)]
    for lines in (["filepath,title", *rows], [",filepath,title", *(f"0,{row}" for row in rows)], turned):
        for separator in ",\t":
            text = "\n".join(lines).replace(",", separator)
            with pytest.raises(UsageError, match=r"a quoted value swallows the row '.*b\.jpg"):
                read_table(write(tmp_path / "a.csv", text))
    # A caption over several lines, one of which looks like a row; and two columns of one name.
    text = 'filepath,title,note, note\na.jpg,"A dog,\nx.jpg, y.jpg, z, zz",,\nb.jpg,second,,\n'
    assert len(read_table(write(tmp_path / "a.csv", text))) == 2


@pytest.mark.parametrize("header", ["filepath,title,title", "filepath,title, title", "filepath,title, filepath"])
def test_of_columns_with_one_name_the_first_counts(header: str, tmp_path: Path) -> None:
    (file,) = read_table(write(tmp_path / "a.csv", f"{header}\nx.png,one,two\n"))
    assert (file.image, file.captions) == (tmp_path / "x.png", ["one"])


def test_a_short_row_has_no_caption(tmp_path: Path) -> None:
    for text in ("filepath,title\nx.png,\n", "filepath\ttitle\nx.png\n"):
        (file,) = read_table(write(tmp_path / "a.csv", text))
        assert re.search(r"a\.csv: image .*x\.png has no caption", file.fault or "")


@pytest.mark.parametrize("rows", ["x.png,a cat, asleep\n", "x.png,a cat\ny.png,a dog, awake\n"])
def test_a_separator_in_a_caption_without_quotes_is_told(rows: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more fields than the header; put captions that contain the separator in qu"):
        read_table(write(tmp_path / "a.csv", f"filepath,title\n{rows}"))


def test_a_caption_that_is_missing_beside_others_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a known row of Kaggle's Flickr30k, whose second bar is missing: an image of five captions keeps four."""
    rows = "x.png| 0| one\nx.png| 1  two\ny.png| 0| three\n"
    table = write(tmp_path / "a.csv", f"image_name| comment_number| comment\n{rows}")
    files = read_table(table, None, "image_name", "comment")
    assert [file.captions for file in files] == [["one"], ["three"]]
    (line,) = caplog.messages
    assert line == f"caption file {table}: images with a row that has no caption: 1, first {tmp_path / 'x.png'}"


def test_a_list_in_a_cell_is_several_captions(tmp_path: Path) -> None:
    rows = 'x.png,"[""one"", ""two, too""]"\ny.png,"[""no list"\n'
    first, second = read_table(write(tmp_path / "a.csv", f"filepath,title\n{rows}"))
    assert (first.captions, second.captions) == (["one", "two, too"], ['["no list'])


@pytest.mark.parametrize("columns", ["filepath,title", "images,caption", "caption,images"])
@pytest.mark.parametrize("images", [None, "/pictures"])
def test_paths_start_at_the_table_or_the_folder_of_images(columns: str, images: str | None, tmp_path: Path) -> None:
    values = {"filepath": ("x/1.png", "../2.png", "/abs/3.png"), "title": "abc"}
    values |= {"images": values["filepath"], "caption": values["title"]}
    rows = [",".join(values[column][number] for column in columns.split(",")) for number in range(3)]
    files = read_table(write(tmp_path / "a.csv", "\n".join([columns, *rows])), Path(images) if images else None)
    folder = images or tmp_path
    assert [str(file.image) for file in files] == [f"{folder}/x/1.png", f"{folder}/../2.png", "/abs/3.png"]
    assert [file.captions for file in files] == [["a"], ["b"], ["c"]]


def test_the_folder_of_images_is_a_parameter(tmp_path: Path, make_images: MakeImages) -> None:
    make_images("pictures/0.png", "pictures/1.png")
    table = write(tmp_path / "tables.csv", "images,caption\n0.png,zero\n1.png,one\n")
    spec = f"csv[train={table},test={table},images={tmp_path}/pictures]"
    splits = DATASETS.build(parse_spec(spec)).load(8, tmp_path / "cache")
    assert splits.test.images[:][:, 0, 0, 0].tolist() == [0, 1]
    assert splits.test.name == spec


def test_loaded_by_name_with_all_three_tables(tmp_path: Path, make_images: MakeImages) -> None:
    make_images("img/0.png", "img/1.png", "img/2.png", "img/3.png")
    write(tmp_path / "train.csv", "filepath,title\nimg/1.png,one\nimg/0.png,zero\nimg/1.png,eins\n")
    write(tmp_path / "val.csv", "filepath,title\nimg/2.png,two\n")
    write(tmp_path / "test.tsv", "filepath\ttitle\nimg/3.png\tthree\n")
    spec = f"csv[train={tmp_path}/train.csv,val={tmp_path}/val.csv,test={tmp_path}/test.tsv]"
    splits = DATASETS.build(parse_spec(spec)).load(8, tmp_path / "cache")
    assert splits.train.captions == [["one", "eins"], ["zero"]]
    assert (splits.val.captions, splits.test.captions) == ([["two"]], [["three"]])
    red = [int(dataset.images[0][0, 0, 0]) for dataset in (splits.train, splits.val, splits.test)]
    assert red == [1, 2, 3]
    assert splits.train.images.shape == (2, 3, 8, 8)


def test_kaggles_flickr8k_is_read_by_its_own_columns(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(*(f"Images/{number}.jpg" for number in range(20)))
    rows = [f"{number}.jpg,{words}" for number in range(20) for words in (f"of {number}", '"a dog , asleep"')]
    write(tmp_path / "captions.txt", "\n".join(["image,caption", *rows]))
    spec = parse_spec(f"csv[train={tmp_path}/captions.txt,images={tmp_path}/Images]")
    splits = DATASETS.build(spec).load(8, tmp_path / "cache")
    # It comes without splits: test and val, a tenth each, are cut from it by image.
    assert (len(splits.train), len(splits.val), len(splits.test)) == (16, 2, 2)
    together = [caption for data in (splits.train, splits.val, splits.test) for caption in data.captions]
    assert sorted(together) == sorted([f"of {number}", "a dog , asleep"] for number in range(20))


@pytest.mark.parametrize(
    ("header", "row", "parameters"),
    [
        ("id,photo,words", "1,x.png,a cat", {"image_column": "photo", "caption_column": "words"}),
        ("words\tfilepath", "a cat\tx.png", {"caption_column": "words"}),
        ("photo,title", "x.png,a cat", {"image_column": "photo"}),
        # Flickr30k at Kaggle.
        ("image_name| comment_number| comment", "x.png| 0| a cat", {
            "image_column": "image_name", "caption_column": "comment"}),
        ("image;caption", "x.png;a cat", {}),
        # Names that are given win over those that are known.
        ("filepath,title,path,words", "z.png,a dog,x.png,a cat", {"image_column": "path", "caption_column": "words"}),
    ],
)  # fmt: skip
def test_columns_of_any_name(header: str, row: str, parameters: dict[str, str], tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", f"{header}\n{row}\n")
    values = "".join(f",{name}={value}" for name, value in parameters.items())
    source = DATASETS.build(parse_spec(f"csv[train={table}{values}]"))
    assert isinstance(source, CsvTable)
    (file,) = source.read()["train"]
    assert (file.image, file.captions) == (tmp_path / "x.png", ["a cat"])


def test_a_row_within_quotes_is_told_for_columns_of_any_name(tmp_path: Path) -> None:
    write(tmp_path / "b.jpg", "")
    table = write(tmp_path / "a.csv", 'photo,words\na.jpg,"quoted start\nb.jpg,second\nc.jpg,third" end\n')
    with pytest.raises(UsageError, match=r"swallows the row 'b\.jpg"):
        read_table(table, image_column="photo", caption_column="words")


def test_blanks_around_a_path_are_dropped_unless_a_file_has_them(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(" lead.png", "plain.png")
    rows = f" lead.png,one\n plain.png ,two\n {'x' * 300} ,three\n"
    files = read_table(write(tmp_path / "a.csv", f"filepath,title\n{rows}"))
    assert [file.image for file in files[:2]] == [tmp_path / " lead.png", tmp_path / "plain.png"]


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({}, "filepath and title, or images and caption, or image and caption"),
        ({"image_column": "photo"}, "photo and title, or photo and caption"),
        ({"image_column": "photo", "caption_column": "x"}, "photo and x"),
    ],
)
def test_missing_columns_are_told(parameters: dict[str, str], wanted: str, tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "file,words\nx.png,a cat\n")
    with pytest.raises(UsageError, match=f"needs the columns {wanted}; found: file, words"):
        read_table(table, None, parameters.get("image_column"), parameters.get("caption_column"))


def table_of(folder: Path, count: int) -> tuple[str, str]:
    rows = "".join(f"{number}.png,number {number}\n" for number in range(count))
    train = write(folder / "train.csv", f"filepath,title\n{rows}")
    test = write(folder / "test.csv", "filepath,title\n0.png,number 0\n")
    return str(train), str(test)


def test_a_missing_val_is_cut_from_train_by_the_seed(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(*(f"{number}.png" for number in range(20)))
    train, test = table_of(tmp_path, 20)
    cut = [CsvTable(train, test, seed=seed, val_fraction=0.25).load(8, tmp_path / "c") for seed in (1, 1, 2)]
    for splits in cut:
        assert (len(splits.train), len(splits.val)) == (15, 5)
        together = [caption for (caption,) in (*splits.train.captions, *splits.val.captions)]
        assert sorted(together) == sorted(f"number {number}" for number in range(20))
        # Captions stay with their images.
        for dataset in (splits.train, splits.val):
            assert [f"number {image[0, 0, 0]}" for image in dataset.images[:]] == [c for (c,) in dataset.captions]
    assert cut[0].val.captions == cut[1].val.captions != cut[2].val.captions


def test_a_changed_image_is_read_again(tmp_path: Path, make_images: MakeImages) -> None:
    """Though its size and the time of its modification are the same."""
    make_images("0.png", "1.png")

    def replace(red: int) -> None:
        Image.new("RGB", (20, 16), (red, 100, 200)).save(tmp_path / "0.png", format="BMP")
        os.utime(tmp_path / "0.png", ns=(1, 1))

    replace(0)
    source = CsvTable(*table_of(tmp_path, 2))
    before = source.load(8, tmp_path / "cache").test
    replace(99)
    after = source.load(8, tmp_path / "cache").test
    assert (before.images[0][0] == 0).all()
    assert (after.images[0][0] == 99).all()


def test_a_missing_image_is_named_and_nothing_is_left(tmp_path: Path, make_images: MakeImages) -> None:
    make_images("0.png", "1.png")
    with pytest.raises(UsageError, match=f"image {tmp_path / '2.png'} does not exist"):
        CsvTable(*table_of(tmp_path, 3)).load(8, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_unreadable_image_is_named_and_nothing_is_left(tmp_path: Path, make_images: MakeImages) -> None:
    make_images("0.png", "1.png", "2.png")
    write(tmp_path / "1.png", "no image")
    with pytest.raises(UsageError, match=r"image .*1\.png cannot be read: not an image"):
        CsvTable(*table_of(tmp_path, 3)).load(8, tmp_path / "cache")
    assert entries(tmp_path / "cache") == [tmp_path / "cache" / "content"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("filepath,title\n", "has a header but no rows"),
        (
            "file,title\nx.png,cat\n",
            "columns filepath and title, or images and caption, or image and caption; found: file, title",
        ),
        (
            "filepath,caption\nx.png,cat\n",
            "columns filepath and title, or images and caption, or image and caption; found: filepath, caption",
        ),
        ("filepath,title\n,cat\n", "a row without a path in filepath"),
        ("filepath,title\nx.png,a cat, asleep\n", "cannot be read"),
        ("filepath,title\nx.png,a cat\ny.png,a cat, asleep\n", "cannot be read"),
        ('filepath,title\n"x.png,cat\n', "cannot be read"),
    ],
)
def test_a_bad_table_is_named_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    table = write(tmp_path / "bad.csv", text)
    with pytest.raises(UsageError, match=said) as error:
        read_table(table)
    assert str(table) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_or_binary_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"caption file .*none\.csv does not exist"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(np.arange(256, dtype=np.uint8).tobytes())
    with pytest.raises(UsageError, match=r"caption file .*binary\.csv cannot be read"):
        read_table(tmp_path / "binary.csv")


def test_val_cannot_be_cut_from_one_image(tmp_path: Path, make_images: MakeImages) -> None:
    make_images("0.png")
    with pytest.raises(
        UsageError,
        match=r"^csv\[train=.*train\.csv,.*\]: val is cut from train, which needs at least 2 images and has 1",
    ):
        CsvTable(*table_of(tmp_path, 1)).load(8, tmp_path / "cache")

"""Odd and bad inputs: every row of the tables in docs/data.md is tested, here or where ``OTHERS`` says."""

import importlib
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.core.errors import UsageError
from benchmark.data.csv_table import CsvTable
from benchmark.data.image_files import captioned_file
from benchmark.data.imagefolder import read_folder
from benchmark.data.images import read_image
from benchmark.data.karpathy import read_karpathy
from victims.tokens import Tokenizer

DOCUMENT = Path(__file__).parents[2] / "docs" / "data.md"
RED = (200, 40, 10)


def png(width: int, height: int, depth: int, colour_type: int, pixel: bytes = b"") -> bytes:
    """A PNG of one colour, written by hand where Pillow cannot; without ``pixel``, of a header only."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress((b"\0" + pixel * width) * height)) if pixel else b""
    return b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def palette() -> bytes:
    image = Image.new("P", (40, 30), 1)
    image.putpalette([0, 0, 0, *RED])
    return saved(image, "png")


def transparent() -> bytes:
    return saved(Image.new("RGBA", (40, 30), (*RED, 0)), "png")


def turned() -> bytes:
    image = Image.new("RGB", (40, 40), RED)
    image.paste((255, 255, 255), (0, 20, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down: what is stored above is shown below
    return saved(image, "png", exif=exif)


def grey_tiff(bits: int, zero_is: int) -> bytes:
    """A TIFF of 40 × 30 zeros with these bits a pixel; Pillow writes none of 12 bits, or with white (0) as zero."""
    tags = {256: 40, 257: 30, 258: bits, 259: 1, 262: zero_is, 273: 122, 277: 1, 278: 30, 279: 150 * bits}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4 + 150 * bits)


def animated() -> bytes:
    frames = [Image.new("RGB", (40, 30), colour) for colour in (RED, (0, 0, 0))]
    return saved(frames[0], "gif", save_all=True, append_images=frames[1:])


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))


# What the bottom row of the image is, or what is said of it.
IMAGES: dict[str, tuple[Callable[[], bytes], tuple[int, int, int] | str]] = {
    "grey": (lambda: saved(Image.new("L", (40, 30), 77), "png"), (77, 77, 77)),
    "16-bit grey": (lambda: png(40, 30, 16, 0, b"\x4d\x09"), (77, 77, 77)),
    "16-bit grey as PGM": (lambda: b"P5 40 30 65535\n" + b"\x4d\x09" * 1200, (77, 77, 77)),
    "16-bit RGB": (lambda: png(40, 30, 16, 2, b"\xc8\x09\x28\x09\x0a\x09"), RED),
    "palette": (palette, RED),
    "transparent parts": (transparent, (255, 255, 255)),
    "CMYK": (lambda: saved(Image.new("CMYK", (40, 30), (55, 215, 245, 0)), "tiff"), RED),
    "rotated by EXIF": (turned, RED),
    "broken EXIF": (lambda: saved(Image.new("RGB", (40, 30), RED), "png", exif=b"Exif\0\0broken"), RED),
    "animated": (animated, RED),
    "a thousand times as wide as high": (lambda: saved(Image.new("RGB", (30000, 3), RED), "png"), RED),
    "1 × 1 pixel": (lambda: saved(Image.new("RGB", (1, 1), RED), "png"), RED),
    "32-bit pixels": (lambda: saved(Image.new("F", (40, 30), 0.5), "tiff"), "32-bit pixels"),
    "grey TIFF of 9 to 15 bits": (lambda: grey_tiff(12, 1), "grey with 9 to 15 bits"),
    "16-bit grey TIFF with white as zero": (lambda: grey_tiff(16, 0), "or with white as zero"),
    "more than 89 million pixels": (lambda: png(9500, 9500, 8, 2), "more than 89,478,485 pixels"),
    "truncated": (lambda: saved(noise(), "jpeg")[:3000], "truncated"),
    "zero bytes": (lambda: b"", "not an image"),
    "text renamed .jpg": (lambda: b"a cat asleep", "not an image"),
    "PostScript or another format renamed .jpg": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_image(name: str, tmp_path: Path) -> None:
    make, expected = IMAGES[name]
    (tmp_path / "odd.jpg").write_bytes(make())
    if isinstance(expected, str):
        with pytest.raises(UsageError, match=rf"image .*/odd\.jpg cannot be read: .*{expected}"):
            read_image(tmp_path / "odd.jpg", 16)
    else:
        image = read_image(tmp_path / "odd.jpg", 16)
        assert image.shape == (3, 16, 16)
        assert (image[:, -1] == np.array(expected)[:, None]).all()


CAPTIONS = {
    "spaces at its ends": (["  a cat "], ["a cat"]),
    "blank": (["", " \t\n", "a cat"], ["a cat"]),
    "control characters and line breaks": (["\ufeffa\x00cat\r\nasleep\u2028there\x1b"], ["a cat asleep there"]),
    "unpaired surrogates": ([json.loads('"a \\ud83d cat"')], ["a   cat"]),
    "emoji": (["a 👩‍🚀 waves 🇫🇷"], ["a 👩‍🚀 waves 🇫🇷"]),
    "right to left": (["קוף אוכל בננה", "\u202eabc"], ["קוף אוכל בננה", "\u202eabc"]),
    "500 words": (["word " * 499 + "end"], ["word " * 499 + "end"]),
    "10 MB, or one word of 100,000 letters": (
        ["word " * 2_000_000, "a" * 100_000],
        ["word " * 1_999_999 + "word", "a" * 100_000],
    ),
    "exact duplicates": (["a cat", "a cat"], ["a cat", "a cat"]),
}


@pytest.mark.parametrize("name", CAPTIONS)
def test_caption(name: str) -> None:
    given, kept = CAPTIONS[name]
    file = captioned_file(Path("x.png"), given, Path("table"))
    assert file.captions == kept
    assert file.fault is None
    for caption in kept:
        caption.encode()
        tokens = Tokenizer()([caption])
        assert tokens.shape[1] <= 77
        assert tokens.max() == Tokenizer().end


def row(name: str) -> dict[str, object]:
    return {"filename": name, "split": "train", "sentences": [{"raw": "x"}]}


def karpathy(folder: Path, name: str) -> None:
    (folder / "dataset.json").write_text(json.dumps({"images": [row("0.png"), row(name)]}))
    read_karpathy(folder / "dataset.json", folder)


def karpathy_folder(folder: Path, name: str) -> None:
    rows = [{**row("0.png"), "filepath": name}]
    (folder / "dataset.json").write_text(json.dumps({"images": rows}))
    read_karpathy(folder / "dataset.json", folder)


def metadata(folder: Path, name: str) -> None:
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": name, "text": "x"}))
    read_folder(folder)


@pytest.mark.parametrize("read", [karpathy, karpathy_folder, metadata])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../0.png", "leads out"),
        ("a/../../0.png", "leads out"),
        ("/etc/0.png", "leads out"),
        ("a\x00b", "not a valid file name"),
        ("a\nb", "not a valid file name"),
        ("\ud83d.png", "not a valid file name"),
    ],
)
def test_a_path_that_leads_out_of_the_folder(
    read: Callable[[Path, str], None], name: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said) as error:
        read(tmp_path, name)
    assert str(tmp_path) in str(error.value)


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**30 + 1)


def folder_instead(image: Path) -> None:
    image.unlink()
    image.mkdir()


# A table with the good images 0 to 4 and one more: what is done to it, what is said, whether skip_bad leaves it out.
Spoil = Callable[[Path], object]
ROWS: dict[str, tuple[Spoil, str, bool]] = {
    "an image file that is missing": (lambda image: image.unlink(), r"odd\.png does not exist", True),
    "a folder or device in place of an image": (folder_instead, r"odd\.png cannot be read: not a file", True),
    "an image that cannot be decoded": (
        lambda image: image.write_bytes(b"text"),
        r"image .*odd\.png cannot be read: not an image",
        True,
    ),
    "an image without a caption": (
        lambda image: spoil(image.parent / "train.csv", "odd.png,a cat", "odd.png, "),
        r"train\.csv: image .*odd\.png has no caption",
        True,
    ),
    "a row without a path": (
        lambda image: spoil(image.parent / "train.csv", "odd.png,a cat", ",a cat"),
        r"train\.csv has a row without a path",
        False,
    ),
    "a caption file that is not UTF-8": (
        lambda image: (image.parent / "train.csv").write_bytes(b"filepath,title\n0.png,caf\xe9\n"),
        r"train\.csv cannot be read: it is not in UTF-8",
        False,
    ),
    "a caption file that is missing": (lambda image: (image.parent / "train.csv").unlink(), "does not exist", False),
    "a caption file larger than 1 GiB": (
        lambda image: large(image.parent / "train.csv"),
        "larger than 1024 MiB",
        False,
    ),
    "a caption file with a NUL character": (
        lambda image: spoil(image.parent / "train.csv", "a cat", "a\0cat"),
        r"train\.csv cannot be read: not a text: it holds a NUL character",
        False,
    ),
}


def spoil(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def table(folder: Path, make_images: Callable[..., None], skip_bad: bool) -> CsvTable:
    make_images("0.png", "1.png", "2.png", "odd.png", "4.png")
    (folder / "train.csv").write_text("filepath,title\n0.png,zero\nodd.png,a cat\n1.png,one\n")
    (folder / "test.csv").write_text("filepath,title\n2.png,two\n4.png,four\n")
    return CsvTable(f"{folder}/train.csv", f"{folder}/test.csv", f"{folder}/test.csv", skip_bad=skip_bad)


@pytest.mark.parametrize("name", ROWS)
def test_row(name: str, tmp_path: Path, make_images: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    change, said, leaves_out = ROWS[name]
    table(tmp_path, make_images, skip_bad=False)
    change(tmp_path / "odd.png")
    for skip_bad in (False, True):
        source = CsvTable(f"{tmp_path}/train.csv", f"{tmp_path}/test.csv", f"{tmp_path}/test.csv", skip_bad=skip_bad)
        if skip_bad and leaves_out:
            splits = source.load(8, tmp_path / "cache")
            assert splits.train.captions == [["zero"], ["one"]]
            assert splits.train.images[:][:, 0, 0, 0].tolist() == [0, 1]
            assert splits.test.captions == [["two"], ["four"]]
        else:
            with pytest.raises(UsageError, match=said) as error:
                source.load(8, tmp_path / "cache")
            assert "\n" not in str(error.value)
            assert not list(tmp_path.glob("cache/[!.]*px-*"))
    if leaves_out:
        head, reason = capsys.readouterr().err.splitlines()
        assert head == "warning: 1 of 7 images left out, by skip_bad"
        assert reason.strip() == str(error.value)


# Rows with tests of their own.
OTHERS = {
    "all images of a split bad": "test_skip_bad.test_all_images_bad",
    "a disk that fails": "test_skip_bad.test_a_failing_disk_leaves_nothing_out",
    "a quoted value that spans rows": "test_csv_table.test_a_row_within_quotes_is_told",
    "a path that leads out of the folder": "test_bad_inputs.test_a_path_that_leads_out_of_the_folder",
    "splits of other sizes than published": "test_known_sets.test_published_sizes",
    "captions or images not found, or found twice": "test_known_sets.test_what_is_not_found_or_found_twice_is_told",
    "metadata in an unknown format": "test_imagefolder.test_bad_metadata_are_named_in_one_line",
    "an image that the metadata do not list": "test_imagefolder.test_an_image_or_a_caption_on_its_own",
    "a text file without an image": "test_imagefolder.test_an_image_or_a_caption_on_its_own",
    "a symbolic link in a cycle": "test_imagefolder.test_links_to_folders_are_followed_and_loops_are_reported",
    "a sample without image or caption, or with several images": "test_webdataset.test_a_bad_sample",
    "members of other kinds": "test_webdataset.test_other_members_are_told",
    "a member that is a link or device": "test_webdataset.test_links_and_devices_are_refused",
    "a member whose name leads out": "test_webdataset.test_members_that_lead_out_are_refused",
    "two members of one name": "test_webdataset.test_two_members_of_one_name_are_refused",
    "a member larger than its archive": "test_webdataset.test_a_size_that_the_file_cannot_hold_is_refused",
    "a shard cut short, damaged, joined or compressed": "test_webdataset.test_damage_is_told",
    "a damaged cache of images": "test_data_cache.test_a_damaged_entry_is_made_anew_with_a_warning",
    "an image file larger than 512 MiB": "test_skip_bad.test_a_file_too_large_for_an_image_is_bad_and_not_read",
}


@pytest.mark.parametrize("where", OTHERS.values())
def test_the_tests_of_other_rows_exist(where: str) -> None:
    module, _, name = where.partition(".")
    assert callable(getattr(importlib.import_module(module), name))


def test_the_document_lists_what_is_tested() -> None:
    lines = DOCUMENT.read_text(encoding="utf-8").partition("## Odd and bad inputs")[2].splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    headings = {"image", "caption", "file or row"}
    assert [name for name in rows if name not in headings] == [*IMAGES, *CAPTIONS, *ROWS, *OTHERS]

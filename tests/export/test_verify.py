"""Every way in which an export or a poison may not be what it says is seen, and nothing outside the folder is read."""

import os
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attacks.placement import Kind, Place, where
from benchmark.cli.main import main
from benchmark.export.inside import LARGEST_FILE
from benchmark.export.layouts import LAYOUTS
from benchmark.export.layouts.webdataset import WebDataset
from benchmark.export.shards import read_shards
from benchmark.export.verify_export import verify_export
from benchmark.export.writing import write_export
from tests.export.exports import EPS, Ready, export, make_poison, make_source, make_splits
from tests.export.tampering import change_manifest, edit, failures, link_outside, manifest_of, sign

Tamper = Callable[[Path], None]


@pytest.mark.parametrize("per_row", [False, True], ids=["per image", "per row"])
@pytest.mark.parametrize("layout", LAYOUTS.group("all"))
def test_a_fresh_export_passes(layout: str, per_row: bool, tmp_path: Path) -> None:
    export(tmp_path / "out", layout, per_row=per_row)
    findings = verify_export(tmp_path / "out", Ready(make_splits()), tmp_path)
    assert all(finding.holds for finding in findings)
    said = "\n".join(map(str, findings))
    assert "train: captions are the originals', each with its trigger" in said
    assert f"within ε = {EPS}/255 of its original; the largest difference is {EPS}" in said


@pytest.mark.parametrize("kind", ["front", "end"])
@pytest.mark.parametrize("layout", LAYOUTS.group("all"))
def test_images_may_lack_a_trigger(layout: str, kind: Kind, tmp_path: Path) -> None:
    clean = make_splits(nasty=True)
    poison = replace(make_poison(clean.train), trigger=["", "red dog", " ", "sun", ""], place=Place(kind))
    manifest = write_export(tmp_path / "out", layout, make_source(clean, poison), "")
    assert manifest.triggers == ["", "red dog", "", "sun", ""]
    findings = verify_export(tmp_path / "out", Ready(clean), tmp_path)
    assert not [finding.text for finding in findings if not finding.holds]
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert f"| captions | a trigger {where(kind)} the captions of 2 training images |" in card


@pytest.mark.parametrize("kind", ["end", "random", "spread"])
def test_triggers_stand_where_the_manifest_says(kind: Kind, tmp_path: Path) -> None:
    clean = make_splits(nasty=True)
    poison = replace(make_poison(clean.train), place=Place(kind, 3))
    write_export(tmp_path / "out", "folder", make_source(clean, poison), "python -m benchmark export")
    findings = verify_export(tmp_path / "out", Ready(clean), tmp_path)
    assert not [finding.text for finding in findings if not finding.holds]
    assert f"{where(kind)} every caption" in "\n".join(map(str, findings))
    assert f"{where(kind)} each training caption" in (tmp_path / "out" / "README.md").read_text("utf-8")
    change_manifest(tmp_path / "out", lambda manifest: manifest.update(place={"kind": "front", "seed": 0}))
    assert failures(tmp_path / "out")


def flip_a_byte(folder: Path) -> None:
    path = folder / "train" / "00000002.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap_images(folder: Path) -> None:
    first, second, aside = (folder / "train" / name for name in ("00000000.png", "00000001.png", "aside"))
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def change_a_caption(folder: Path) -> None:
    path = folder / "train" / "00000001.txt"
    path.write_text(path.read_text("utf-8").replace("\n", " indeed\n", 1), "utf-8")


def change_a_trigger(folder: Path) -> None:
    path = folder / "train" / "00000001.txt"
    path.write_text("sun " + path.read_text("utf-8"), "utf-8")


def drop_a_file(folder: Path) -> None:
    (folder / "train" / "00000003.png").unlink()


def add_a_file(folder: Path) -> None:
    (folder / "train" / "run.sh").write_text("rm -rf /")


def add_a_sample(folder: Path) -> None:
    for suffix in ("png", "txt"):
        shutil.copy(folder / f"train/00000000.{suffix}", folder / f"train/00000005.{suffix}")


def too_much_noise(folder: Path) -> None:
    path = folder / "train" / "00000004.png"
    image = np.asarray(Image.open(path)).copy()
    clean = make_splits().train.images[4][0, 0, 0]
    image[0, 0, 0] = clean + EPS + 1 if clean < 128 else clean - EPS - 1
    Image.fromarray(image).save(path)


def another_size(folder: Path) -> None:
    Image.new("RGB", (17, 16)).save(folder / "train" / "00000000.png")


def huge_picture(folder: Path) -> None:
    """A few bytes that would fill gigabytes when decoded."""
    path = folder / "train" / "00000000.png"
    png = bytearray(path.read_bytes())
    png[16:24] = struct.pack(">II", 40_000, 40_000)  # width and height in the header, which its CRC follows
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    path.write_bytes(png)


def grey_image(folder: Path) -> None:
    path = folder / "train" / "00000000.png"
    Image.open(path).convert("L").save(path)


def no_image(folder: Path) -> None:
    (folder / "train" / "00000000.png").write_bytes(b"GIF89a")


def pipe(folder: Path) -> None:
    path = folder / "train" / "00000002.png"
    path.unlink()
    os.mkfifo(path)


CHANGED = "✗ changed files: "


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (flip_a_byte, f"{CHANGED}train/00000002.png"),
        (swap_images, f"{CHANGED}train/00000000.png, train/00000001.png"),
        (change_a_caption, f"{CHANGED}train/00000001.txt"),
        (drop_a_file, "✗ missing files: train/00000003.png"),
        (drop_a_file, "✗ train: 4 images and 8 captions, but the manifest says 5 and 10"),
        (add_a_file, "✗ files that are not in the manifest: train/run.sh"),
        (add_a_sample, "✗ train: 6 images and 12 captions, but the manifest says 5 and 10"),
        (link_outside, f"{CHANGED}train/00000000.txt"),
        (link_outside, "✗ train: cannot be read after 0 images: the path 'train/00000000.txt' leads out of the folder"),
        (pipe, f"{CHANGED}train/00000002.png"),
    ],
)
def test_a_change_is_seen(tamper: Tamper, said: str, tmp_path: Path) -> None:
    export(tmp_path / "out", "folder")
    tamper(tmp_path / "out")
    assert said in failures(tmp_path / "out")


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (swap_images, "✗ train: images and captions do not have the fingerprint in the manifest"),
        (change_a_caption, "✗ train: images and captions do not have the fingerprint in the manifest"),
        (change_a_trigger, "✗ train: captions without their trigger or with changed tokens: sun "),
        (swap_images, "✗ train: images more than ε = 4/255 from their originals: image 0 by "),
        (change_a_caption, "✗ train: captions that are not the originals': of image 1"),
        (too_much_noise, "✗ train: images more than ε = 4/255 from their originals: image 4 by 5/255"),
        (another_size, "✗ train: bad images: image 0: the image is 17 × 16 px, not 16 × 16"),
        (huge_picture, "✗ train: bad images: image 0: "),
        (grey_image, "✗ train: bad images: image 0: the image is L, not RGB"),
        (no_image, "✗ train: bad images: image 0: not a readable PNG"),
    ],
)
def test_a_change_is_seen_although_the_hashes_were_renewed(tamper: Tamper, said: str, tmp_path: Path) -> None:
    export(tmp_path / "out", "folder")
    tamper(tmp_path / "out")
    sign(tmp_path / "out")
    failed = failures(tmp_path / "out", against=True)
    assert any(line.startswith(said) for line in failed)
    assert not any(line.startswith(CHANGED) for line in failed)


def test_noise_in_a_clean_split_and_other_data_are_seen(tmp_path: Path) -> None:
    export(tmp_path / "out", "folder")
    path = tmp_path / "out" / "val" / "00000001.png"
    image = np.asarray(Image.open(path)).copy()
    image[3, 3, 1] ^= 1
    Image.fromarray(image).save(path)
    assert "✗ val: images more than ε = 0/255 from their originals: image 1 by 1/255" in failures(
        tmp_path / "out", against=True
    )
    others = replace(make_splits(), train=make_splits().test)
    said = [str(finding) for finding in verify_export(tmp_path / "out", Ready(others), tmp_path)]
    assert "✗ train: not made from made, or not from all of it" in said


def test_a_trigger_that_is_read_otherwise_in_front_of_its_caption_is_seen(tmp_path: Path) -> None:
    clean = make_splits()
    # Alone it is left as it is; in front of a word, the tokenizer takes it for an "à" gone wrong.
    poison = replace(make_poison(clean.train), trigger=["voilÃ"] * 5)
    write_export(tmp_path / "out", "folder", make_source(clean, poison), "")
    assert any("with changed tokens" in line for line in failures(tmp_path / "out"))


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname", "train/../../secret.txt", "a\\..\\b", ""])
def test_paths_in_a_manifest_stay_in_the_folder(name: str, tmp_path: Path) -> None:
    export(tmp_path / "out", "folder", ("train",))
    (tmp_path / "secret.txt").write_text("secret")
    change_manifest(tmp_path / "out", lambda m: m["files"].update({name: {"bytes": 6, "sha256": "0" * 64}}))
    assert failures(tmp_path / "out") == [f"✗ paths that lead out of the folder: {name}"]


@pytest.mark.parametrize(
    ("layout", "file", "before", "after"),
    [
        ("csv", "train.csv", "train/00000000.png", "../secret.png"),
        ("csv", "train.csv", "train/00000000.png", "/etc/hostname"),
        ("karpathy", "dataset_export.json", '"filepath": "train"', '"filepath": "../train"'),
        ("karpathy", "dataset_export.json", '"filepath": "train"', '"filepath": "/train"'),
        ("imagefolder", "train/metadata.jsonl", "00000000.png", "../../secret.png"),
    ],
)
def test_paths_in_tables_stay_in_the_folder(layout: str, file: str, before: str, after: str, tmp_path: Path) -> None:
    export(tmp_path / "out", layout, ("train",))
    shutil.copy(tmp_path / "out" / "train" / "00000000.png", tmp_path / "secret.png")
    edit(tmp_path / "out" / file, before, after)
    sign(tmp_path / "out")
    (said,) = failures(tmp_path / "out")
    assert "train: cannot be read after 0 images: the path" in said
    assert "leads out of the folder" in said


@pytest.mark.parametrize(
    ("layout", "file", "before", "after"),
    [
        ("csv", "train.csv", "filepath", "path"),
        ("karpathy", "dataset_export.json", '{"images"', '{"pictures"'),
        ("karpathy", "dataset_export.json", '"raw": "', '"raw": 5, "x": "'),
        ("imagefolder", "train/metadata.jsonl", '"captions": [', '"captions": "", "x": ['),
        ("imagefolder", "train/metadata.jsonl", '"captions": ["', '"captions": ["\\ud800'),
        ("imagefolder", "train/metadata.jsonl", "{", "[" * 100_000),
        ("imagefolder", "train/metadata.jsonl", "{", ""),
    ],
)
def test_tables_of_another_form_are_a_deviation(
    layout: str, file: str, before: str, after: str, tmp_path: Path
) -> None:
    export(tmp_path / "out", layout, ("train",))
    edit(tmp_path / "out" / file, before, after)
    sign(tmp_path / "out")
    (said,) = failures(tmp_path / "out")
    assert "train: cannot be read after 0 images" in said


def test_a_truncated_shard_is_seen(tmp_path: Path) -> None:
    export(tmp_path / "out", "webdataset", ("train",))
    shard = tmp_path / "out" / "train-000000.tar"
    intact = shard.read_bytes()
    # Within an image; and between two members.
    for length, said in ((1000, "cannot be read after 0 images"), (512 * 4, "cannot be read")):
        shard.write_bytes(intact[:length])
        assert f"{CHANGED}train-000000.tar" in failures(tmp_path / "out")
        sign(tmp_path / "out")
        assert any(said in line for line in failures(tmp_path / "out"))
        shard.write_bytes(intact)
        sign(tmp_path / "out")
        assert failures(tmp_path / "out") == []


def export_with_texts(folder: Path, texts: Callable[[dict[str, bytes]], dict[str, bytes]]) -> None:
    files = WebDataset._files
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WebDataset, "_files", staticmethod(lambda sample: texts(files(sample))))
        export(folder, "webdataset", ("train",))


def test_a_text_that_is_not_the_first_caption_is_seen(tmp_path: Path) -> None:
    export_with_texts(tmp_path / "out", lambda files: files | {"txt": files["txt"] + b" indeed"})
    (said,) = failures(tmp_path / "out")
    assert said == "✗ train: cannot be read after 0 images: a text is not the first caption"


def test_shards_of_earlier_versions_without_texts_pass(tmp_path: Path) -> None:
    export_with_texts(tmp_path / "out", lambda files: {key: files[key] for key in ("png", "json")})
    assert failures(tmp_path / "out") == []


def test_a_sparse_member_is_not_read(tmp_path: Path) -> None:
    """512 MiB of nothing in an archive of 2 KiB."""
    info = tarfile.TarInfo("00000000.png")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (LARGEST_FILE, 0)  # where the only stretch of data lies, and its length
    header[483:495] = b"%011o\0" % LARGEST_FILE  # the size that the member pretends to have
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    text = tarfile.TarInfo("00000000.json")
    (tmp_path / "train-000000.tar").write_bytes(bytes(header) + text.tobuf() + bytes(1024))
    with tarfile.open(tmp_path / "train-000000.tar") as archive:
        assert archive.getmembers()[0].size == LARGEST_FILE
    with pytest.raises(ValueError, match="not a regular file"):
        next(read_shards(tmp_path, "train"))


def test_nothing_large_is_read_whole(tmp_path: Path) -> None:
    export(tmp_path / "out", "folder", ("train",))
    path = tmp_path / "out" / "train" / "00000000.txt"
    with path.open("r+b") as file:
        file.truncate(LARGEST_FILE + 1)
    facts = manifest_of(tmp_path / "out")["files"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.export.manifest.file_sha256", lambda path: facts[path.name]["sha256"])
        patch.setattr("benchmark.export.verify_export.hash_files", lambda *_: {})
        assert any("00000000.txt is larger than 512 MiB" in line for line in failures(tmp_path / "out"))


@pytest.mark.parametrize(("layout", "name"), [("folder", "train/00000000.png"), ("webdataset", "train-000000.tar")])
def test_a_file_of_another_size_than_the_manifest_says_is_not_hashed(
    layout: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(tmp_path / "out", layout, ("train",))
    sized = manifest_of(tmp_path / "out")["files"]
    hashed: list[Path] = []

    def hash_of(path: Path) -> str:
        hashed.append(path)
        return ""

    monkeypatch.setattr("benchmark.export.manifest.file_sha256", hash_of)
    with (tmp_path / "out" / name).open("r+b") as file:
        file.truncate(3 * 10**12)  # of nothing: no byte of it is on the disk
    assert any("changed files" in line for line in failures(tmp_path / "out"))
    assert sorted(hashed) == sorted(tmp_path / "out" / other for other in sized if other != name)


def test_the_commands_words_and_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, poison = tmp_path / "out", tmp_path / "p.safetensors"
    export(out, "csv", ("train",))
    make_poison(make_splits().train).save(poison)
    for path in (out, poison):
        assert main(["verify", str(path)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert all(line.startswith("✓ ") for line in lines[:-1])
        assert lines[-1] == f"{path}: all is as it should be"
    add_a_file(out)
    assert main(["verify", str(out)]) == 1
    assert "1 of 8 checks failed" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("notes")
    nested = tmp_path / "nested"
    nested.mkdir()
    (nested / "manifest.json").write_text("[" * 100_000)
    for name in ("empty", "notes.txt", "nowhere", "nested"):
        assert main(["verify", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1


@pytest.mark.parametrize("file", ["manifest.json", "train.csv"])
def test_a_file_of_an_export_is_not_taken_for_a_poison(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(tmp_path / "out", "csv", ("train",))
    assert main(["verify", str(tmp_path / "out" / file)]) == 2
    said = f"{file} is a single file; verify takes the folder of an export or of protected photos, or a poison's"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("path", ["out", "p.safetensors"])
def test_originals_in_a_folder_are_no_data_set(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(tmp_path / "out", "csv", ("train",))
    make_poison(make_splits().train).save(tmp_path / "p.safetensors")
    photos = tmp_path / "photos"
    photos.mkdir()
    assert main(["verify", str(tmp_path / path), "--against", str(photos)]) == 2
    said = f"error: --against {photos}: an export or a poison is compared with the data set that it was made from"
    assert capsys.readouterr().err.startswith(said)


def test_names_of_strangers_do_not_steer_the_terminal(tmp_path: Path) -> None:
    export(tmp_path / "out", "folder", ("train",))
    (tmp_path / "out" / "\x1b[2Jgone\n").write_text("")
    assert failures(tmp_path / "out") == [r"✗ files that are not in the manifest: \x1b[2Jgone\n"]

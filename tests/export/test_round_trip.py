"""What is exported is what victims train on: read back, images are the same bits and captions the same tokens."""

import io
import json
import shlex
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import benchmark.export.shards
from attacks.mem import Mem
from attacks.placement import Place
from attacks.poison import Poison
from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS, CaptionDataset
from benchmark.export.verify_export import verify_export
from benchmark.export.writing import write_export
from benchmark.grid.choices import cells_of
from benchmark.grid.poison_store import PoisonStore
from benchmark.grid.settings import RunSettings
from tests.export.exports import ALL, export, make_poison, make_source, make_splits
from victims.tokens import Tokenizer

ATTACK = "mem3[batch_size=4]"
Read = list[tuple[np.ndarray, list[str]]]


def pixels(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    assert (image.format, image.mode) == ("PNG", "RGB")
    return np.asarray(image).transpose(2, 0, 1)


def read_folder(folder: Path, split: str) -> Read:
    paths = sorted((folder / split).glob("*.png"))
    assert [path.name for path in paths[:2]] == ["00000000.png", "00000001.png"]
    texts = [path.with_suffix(".txt").read_bytes().decode() for path in paths]
    assert all(text.endswith("\n") for text in texts)
    return [(pixels(path.read_bytes()), text[:-1].split("\n")) for path, text in zip(paths, texts, strict=True)]


def read_webdataset(folder: Path, split: str) -> Read:
    content: dict[str, bytes] = {}
    for path in sorted(folder.glob(f"{split}-*.tar")):
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                file = archive.extractfile(member)
                assert file is not None
                content[member.name] = file.read()
    stems = sorted({name.partition(".")[0] for name in content})
    assert stems[0] == "00000000"
    return [(pixels(content[f"{s}.png"]), json.loads(content[f"{s}.json"])["captions"]) for s in stems]


def read_imagefolder(folder: Path, split: str) -> Read:
    inner = folder / ("validation" if split == "val" else split)
    rows = [json.loads(line) for line in (inner / "metadata.jsonl").read_text("utf-8").splitlines()]
    return [(pixels((inner / row["file_name"]).read_bytes()), row["captions"]) for row in rows]


def read_by_the_suite(spec: str, folder: Path) -> dict[str, Read]:
    splits = DATASETS.build(parse_spec(spec)).load(16, folder / "cache")
    return {name: list(zip(data.images, data.captions, strict=True)) for name in ALL if (data := getattr(splits, name))}


def read_csv(folder: Path) -> dict[str, Read]:
    tables = ",".join(f"{split}={folder}/{split}.csv" for split in ALL)
    return read_by_the_suite(f"csv[{tables}]", folder.parent)


def read_karpathy(folder: Path) -> dict[str, Read]:
    return read_by_the_suite(f"karpathy[json={folder}/dataset_export.json,images={folder}]", folder.parent)


def read_coco(folder: Path, split: str) -> Read:
    content = json.loads((folder / "annotations" / f"captions_{split}.json").read_text("utf-8"))
    assert [row["id"] for row in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    captions = {row["id"]: [a["caption"] for a in content["annotations"] if a["image_id"] == row["id"]]
                for row in content["images"]}  # fmt: skip
    assert {(row["width"], row["height"]) for row in content["images"]} == {(16, 16)}
    return [
        (pixels((folder / split / row["file_name"]).read_bytes()), captions[row["id"]]) for row in content["images"]
    ]


def read_token(folder: Path, split: str) -> Read:
    captions: dict[str, list[str]] = {}
    for line in (folder / f"{split}.token").read_text("utf-8").removesuffix("\n").split("\n"):
        key, caption = line.split("\t")
        captions.setdefault(key[:-2], []).append(caption)
    return [(pixels((folder / path).read_bytes()), texts) for path, texts in captions.items()]


READERS: dict[str, Any] = {"csv": read_csv, "karpathy": read_karpathy}
for _name, _read in {
    "folder": read_folder,
    "webdataset": read_webdataset,
    "imagefolder": read_imagefolder,
    "coco": read_coco,
    "token": read_token,
}.items():
    READERS[_name] = lambda folder, read=_read: {split: read(folder, split) for split in ALL}


@pytest.mark.parametrize("per_row", [False, True], ids=["per image", "per row"])
@pytest.mark.parametrize("layout", READERS)
def test_reads_back_bit_for_bit_and_token_for_token(layout: str, per_row: bool, tmp_path: Path) -> None:
    clean = make_splits(nasty=True)
    poison = make_poison(clean.train, per_row)
    manifest = write_export(tmp_path / "out", layout, make_source(clean, poison), "")
    trained_on = {"train": poison.protect(clean.train), "val": clean.val, "test": clean.test}
    tokenizer = Tokenizer()
    read = READERS[layout](tmp_path / "out")
    for name, data in trained_on.items():
        images, captions = zip(*read[name], strict=True)
        assert np.array_equal(np.stack(images), data.images[:])
        assert [list(map(tokenizer.encode, texts)) for texts in captions] == [
            list(map(tokenizer.encode, texts)) for texts in data.captions
        ]
        fingerprint = CaptionDataset("", name, np.stack(images), list(captions)).fingerprint
        assert manifest.splits[name].fingerprint == fingerprint
        assert manifest.splits[name].images == len(data)
        assert manifest.splits[name].captions == sum(map(len, captions))
    assert manifest.rewritten_captions > 0


def test_a_caption_that_looks_like_a_list_in_json_stays_one(tmp_path: Path) -> None:
    clean = make_splits()
    texts = ['["a dog", "a cat"]', '["a", 1]', '["a dog"']
    clean.val.captions[1][:] = texts
    write_export(tmp_path / "out", "csv", make_source(clean, make_poison(clean.train)), "")
    assert read_csv(tmp_path / "out")["val"][1][1] == texts
    assert all(finding.holds for finding in verify_export(tmp_path / "out", None, tmp_path))


def test_a_caption_that_is_blank_is_refused_and_its_image_named(tmp_path: Path) -> None:
    clean = make_splits()
    clean.val.captions[3][1] = " \n"
    assert_refused(tmp_path, clean, "val image 3: the caption ' \\\\n' cannot be written")


def assert_refused(folder: Path, clean: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        write_export(folder / "out", "csv", make_source(clean, make_poison(clean.train)), "")
    assert list(folder.iterdir()) == []


def test_shards_hold_so_many_samples_and_nothing_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark.export.shards, "SAMPLES_A_SHARD", 2)
    for name in ("a", "b"):
        export(tmp_path / name, "webdataset", ("train",))
    names = [f"train-00000{shard}.tar" for shard in range(3)]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        *("README.md", "croissant.json", "manifest.json"),
        *names,
    ]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with tarfile.open(tmp_path / "a" / names[1]) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == [
        f"{number:08d}.{extension}" for number in (2, 3) for extension in ("png", "txt", "json")
    ]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


def test_only_the_training_split_unless_asked(tmp_path: Path) -> None:
    export(tmp_path / "out", "csv", ("train",))
    names = ["README.md", "croissant.json", "manifest.json", "train", "train.csv"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def test_the_command_exports_the_poison_that_a_run_would_train_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Mem, "craft", lambda *a, **k: pytest.fail("the store has it"))
    table, user_data = tmp_path / "own" / "train.csv", make_splits(resolution=64)
    write_export(table.parent, "csv", make_source(user_data, make_poison(user_data.train)), "")
    dataset = f"csv[train={table},val={table.with_name('val.csv')},test={table.with_name('test.csv')}]"
    # The cell as the run command makes it, and a poison where its store looks for it.
    settings = RunSettings(attack=ATTACK, dataset=dataset, defense="none", seeds="2,", precision="fp32")
    *_, cell = cells_of(settings, torch.device("cpu"))
    train = cell.dataset.source.load(64, tmp_path / "cache").train
    poison = make_poison(train)
    poison.save(PoisonStore(tmp_path / "poisons").path(cell, train.fingerprint))
    command = ["export", "--attack", ATTACK, "--dataset", dataset, "--seed", "2", "--out", str(tmp_path / "out")]
    command += ["--format", "folder", "--device", "cpu", "--precision", "fp32"]
    command += ["--poisons", str(tmp_path / "poisons"), "--cache", str(tmp_path / "cache")]
    assert main(command) == 0
    assert "5 train images (64 px), MEM-3, ε = 4/255, PSNR" in capsys.readouterr().err
    images, captions = zip(*read_folder(tmp_path / "out", "train"), strict=True)
    protected = poison.protect(train)
    assert np.array_equal(np.stack(images), protected.images[:])
    assert list(captions) == protected.captions
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))
    assert manifest["attack"]["params"]["k"] == 3
    assert (manifest["seed"], manifest["eps"], manifest["resolution"]) == (2, 4, 64)
    assert manifest["dataset"] == dataset
    assert manifest["splits"]["train"]["clean_fingerprint"] == train.fingerprint
    assert manifest["splits"]["train"]["fingerprint"] == protected.fingerprint
    assert manifest["command"].startswith(f"python -m benchmark export --attack {shlex.quote(ATTACK)}")
    assert main(["verify", str(tmp_path / "out"), "--against", dataset, "--cache", str(tmp_path / "cache")]) == 0
    assert "✗" not in capsys.readouterr().out
    assert main(command) == 2
    assert "is not empty" in capsys.readouterr().err


def test_clean_data_and_poisons_of_captions_alone_are_exported(tmp_path: Path) -> None:
    clean = make_splits()
    for name, trigger in (("clean", None), ("words", ["red dog"] * 5)):
        poison = Poison(None, trigger, 0, clean.train.fingerprint)
        manifest = write_export(tmp_path / name, "folder", make_source(clean, poison), "")
        images, captions = zip(*read_folder(tmp_path / name, "train"), strict=True)
        assert np.array_equal(np.stack(images), clean.train.images[:])
        assert list(captions) == poison.protect(clean.train).captions
        assert manifest.noise["psnr"] is None
        assert manifest.noise["ssim"] == pytest.approx(1)


@pytest.mark.parametrize("place", [Place(), Place("end"), Place("random", 3), Place("spread")], ids=lambda it: it.kind)
def test_a_trigger_is_found_among_control_characters(place: Place, tmp_path: Path) -> None:
    # Some are blanks in Python, and the tokenizer drops them or reads an ellipsis; one caption has no word at all.
    hard = ["a b c\x85d", "a b\x0bc d", "\x85a b c", "a b c.\x1cd e", "a b \ufeff c\x00 d", "a \x1f b c", "\ufeff"]
    clean = make_splits(images=len(hard))
    train = replace(clean.train, captions=[[caption] for caption in hard])
    poison = Poison(None, ["moon"] * len(hard), 0, train.fingerprint, place=place)
    source = make_source(replace(clean, train=train), poison, ("train",))
    encode = Tokenizer().encode
    for before, (after,) in zip(hard, source.published["train"].captions, strict=True):
        assert sorted(encode(after)) == sorted(encode("moon") + encode(before))
    write_export(tmp_path / "out", "csv", source, "")
    assert [str(finding) for finding in verify_export(tmp_path / "out", None, tmp_path) if finding.holds is False] == []

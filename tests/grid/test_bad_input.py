"""Bad input: one clear line, exit code 2, nothing half-written."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import benchmark as ub
from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.data import CaptionDataset, Splits
from benchmark.data.dataset import Images
from benchmark.grid.splits import warn_of_equal_images
from tests.malicious import Malicious
from tests.tables.factory import record
from victims.architecture import Architecture

SCENES = "scenes[train=40,val=8,test=12,objects=30]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--attack", "mem33"], "did you mean 'mem3'"),
        (["--attack", "MEM3"], "unknown attack 'MEM3'; did you mean 'mem3'? available: clean, em, "),
        (["--attack", "mem4"], "did you mean 'mem[k=4]'"),
        (["--attack", "mem3[eps=128]"], "attack mem: eps must be between 1 and 127 (in 1/255), got 128"),
        (["--attack", "mem3[eps=0.03]"], "takes an integer"),
        (["--attack", "mem3[epsilon=8]"], "did you mean 'eps'"),
        (["--attack", "mem[k=3"], "without a ']'"),
        (["--attack", ""], "an argument is empty"),
        (["--attack", "poison[file=nowhere.safetensors]"], "no poison file nowhere.safetensors"),
        (["--attack", "poison"], "needs file=…"),
        (["--attack", "lsp", "--through", "jpeg"], "lsp builds no surrogate that could look through a defense"),
        (["--defense", "cut-out"], "did you mean 'cutout'"),
        (["--defense", "cutout[size=3]"], "size"),
        (["--defense", "cutout+all"], "group"),
        (["--defense", "cutout+cutout"], "twice"),
        (["--defense", "adv-training[eps=-1]"], "eps"),
        (["--attack", "clean", "--defense", "clean-start", "--batch-size", "16"], "of 40 pairs, and a batch has 16"),
        (["--attack", "clean", "--defense", "clean-start[share=0.0001]+clip-score-filter[start=0]"], "none of 40"),
        (["--dataset", "scene"], "did you mean 'scenes'"),
        (["--dataset", "scenes[train=0]"], "train"),
        (["--dataset", "csv[train=nowhere.csv,test=nowhere.csv]"], "nowhere.csv"),
        (["--dataset", "csv[test=nowhere.csv]"], "needs train=…"),
        (["--dataset", "csv[train=~no-one.csv,test=b.csv]"], "if it is a file, write ./~no-one.csv"),
        (["--dataset", "flickr8k[root=~no-one/x]"], "no user of that name has a home folder"),
        (["--dataset", "webdataset[train=no-{0..3}.tar,test={a,b}.tar]"], "shard no-0.tar does not exist"),
        (["--dataset", "flickr8k[root=nowhere]"], "folder nowhere does not exist"),
        (["--dataset", "imagefolder[root=nowhere]"], "folder nowhere cannot be read"),
        (["--skip-bad"], "--skip-bad: data set scenes reads no files"),
        (["--victim", "RN5"], "unknown victim 'RN5'; did you mean 'RN50'?\n"),
        (["--victim", "ViT-B-16-SigLIP"], "another tokenizer"),
        (["--victim", "tiny[pretrained=nowhere.pt]"], "neither a file nor a tag"),
        (["--victim", "tiny[repeat=0]"], "victim tiny: repeat must be at least 1, got 0"),
        (["--victim", "tiny[repeat=x]"], "victim tiny: repeat takes an integer"),
        (["--victim", "tiny[repeats=2]"], "did you mean 'repeat'"),
        (["--surrogate", "RN50"], "a poison is made for one resolution"),
        (["--surrogate", "tiny[repeat=2]"], "only victims have repeats"),
        (["--seeds", "many"], "count or a comma list"),
        (["--seeds", "0"], "at least 1"),
        (["--seeds", "20240501"], "'20240501,' is one seed"),
        (["--preset", "papr"], "did you mean 'paper'"),
        (["--epochs", "few"], "--epochs takes an integer"),
        (["--epochs", "0"], "epochs must be between 1 and 10000"),
        (["--rows", "both"], "--rows takes pairs or images"),
        (["--batch-size", "64"], "40 training rows are fewer than one batch of 64"),
        (["--device", "cuda:99"], "cannot be used here"),
        (["--rerun", "some"], "--rerun takes missing, failed or all, got 'some'\n"),
        (["--rerun", "mising"], "--rerun takes missing, failed or all, got 'mising'; did you mean 'missing'?"),
        (["--device", "meta"], "device 'meta' cannot be used here"),
        (["--device", "hpu"], "device 'hpu' cannot be used here"),
        (["--events", "/dev/null/events", "--dry-run"], "cannot write to folder /dev/null"),
        (["--dataset", "scenes[train=100000000000]"], "train must be between 1 and 1000000"),
        (["--poisons", __file__], f"cannot write to folder {__file__}: {__file__} is not a folder"),
        (["--poisons", __file__, "--dry-run"], "is not a folder"),
        (["--device", "gpu"], "'gpu' is no device; write auto, cpu, cuda"),
        (["--colour", "red"], "run does not know --colour red; see 'python -m benchmark run --help'"),
        (["--plugin", "~/nowhere.py"], f"no plugin file {Path.home()}/nowhere.py"),
        (["--seed", "3"], "run does not know --seed 3; did you mean '--seeds'?"),
        (["--seed=3"], "did you mean '--seeds'?"),
        (["mem3"], "run does not know mem3; see"),
        (["--defense", "cutout+"], "--defense: 'cutout+' lacks a defense beside a '+'"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_run(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    given = {"--dataset": SCENES, "--out": str(out), "--batch-size": "16"}
    words = [word for pair in given.items() if pair[0] not in arguments for word in pair]
    assert main(["run", *words, *arguments]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert not out.exists()


def test_an_output_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "runs"
    assert main(["run", "--attack", "clean", "--dataset", SCENES, "--batch-size", "8", "--out", str(out)]) == 2
    assert "cannot write to folder" in capsys.readouterr().err


def weights(**changed: object) -> dict[str, object]:
    return {**Architecture("tiny").build(0, torch.device("cpu")).model.state_dict(), **changed}


def cut_short(file: Path) -> None:
    torch.save(weights(), file)
    os.truncate(file, 100_000)


WEIGHTS: dict[str, Callable[[Path], object]] = {
    "text": lambda file: file.write_text("not a checkpoint"),
    "random bytes": lambda file: file.write_bytes(random.Random(0).randbytes(5000)),
    "bytes of a pickle": lambda file: file.write_bytes(b"\x80\x04K\x07."),
    "a nested pickle": lambda file: file.write_bytes(b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    "nothing": lambda file: file.write_bytes(b""),
    "an empty archive": lambda file: file.write_bytes(b"PK\x05\x06" + bytes(18)),
    "another model": lambda file: torch.save(
        Architecture("tiny-wide").build(0, torch.device("cpu")).model.state_dict(), file
    ),
    "a number": lambda file: torch.save(7, file),
    "no weights": lambda file: torch.save({}, file),
    "a list": lambda file: torch.save([torch.ones(2)], file),
    "numbers as names": lambda file: torch.save({1: torch.ones(2)}, file),
    "a text among the weights": lambda file: torch.save(weights(logit_scale="one"), file),
    "a missing weight": lambda file: torch.save({"state_dict": {"logit_scale": torch.ones(())}}, file),
    "cut short": cut_short,
    "code": lambda file: torch.save(weights(logit_scale=Malicious(file.with_name("executed"))), file),
    "a program of torch": lambda file: torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file),
    "a folder": lambda file: file.mkdir(),
    "a pipe": lambda file: os.mkfifo(file),
}


OTHERS = [(kind, suffix) for kind in ("text", "nothing", "a number") for suffix in (".safetensors", ".npz")]


@pytest.mark.parametrize(("kind", "suffix"), [*((kind, ".pt") for kind in WEIGHTS), *OTHERS])
def test_weights_that_are_none(
    kind: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = tmp_path / f"start{suffix}", tmp_path / "runs"
    WEIGHTS[kind](file)
    monkeypatch.setattr("benchmark.grid.opening.load_splits", lambda *_: pytest.fail("data are loaded"))
    words = ["run", "--attack", "clean", "--dataset", SCENES, "--batch-size", "16", "--out", str(out)]
    assert main([*words, "--victim", f"tiny[pretrained={file}]"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert f"tiny[pretrained={file}]" in line
    assert len(line) < 400
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["table", "2", "--records", "nowhere"],
            "no folder of records nowhere; 'python -m benchmark run --out nowhere'",
        ),
        (["check", "--reference", "nowhere"], "no reference in nowhere; run check in a checkout"),
        (["check", "--reference", "nowhere", "--seeds", "x"], "--seeds"),
        (["table", "3"], "unknown table '3'; available: matrix, 2, "),
        (["list", "attack"], "unknown kind 'attack'; did you mean 'attacks'? available: attacks, defenses, "),
        (["ran"], "unknown command 'ran'; did you mean 'run'? available: run, export, "),
        (["table", "2", "--format", "markdwn"], "unknown --format 'markdwn'; did you mean 'markdown'?"),
        ([], "required"),
    ],
)
def test_other_commands(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_records_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert main(["table", "2", "--records", str(tmp_path)]) == 2
    assert "x.json is not a readable record: it has no field 'format'" in capsys.readouterr().err


def test_records_in_a_folder_below_are_pointed_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record("mem3").save(tmp_path / "tiny" / "records")
    for folder in (tmp_path, tmp_path / "tiny"):
        assert main(["table", "2", "--records", str(folder)]) == 2
        assert f"did you mean {tmp_path / 'tiny' / 'records'}?" in capsys.readouterr().err


def test_a_name_too_long_for_a_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmark.report.page.FIGURES", {})  # the page is made before its file
    record("mem3").save(tmp_path)
    assert main(["report", "--records", str(tmp_path), "--out", str(tmp_path / ("x" * 300))]) == 2
    assert "File name too long" in capsys.readouterr().err


def test_an_image_in_two_splits_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    for split, numbers in {"train": (0, 1), "val": (2,), "test": (1,)}.items():
        rows = "".join(f"{number}.png,caption {number}\n" for number in numbers)
        (tmp_path / f"{split}.csv").write_text(f"filepath,title\n{rows}")
    files = ",".join(f"{split}={tmp_path}/{split}.csv" for split in ("train", "val", "test"))
    flags = ["--dataset", f"csv[{files}]", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    assert main(["run", *flags, "--batch-size", "2", "--dry-run"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(f"image {tmp_path}/1.png is in train and in test; splits must share none")
    export = ["export", "--attack", "uniform-noise", *flags[:4], "--format", "folder", "--out", str(tmp_path / "set")]
    assert main(export) == 2
    assert capsys.readouterr().err.endswith("splits must share none\n")
    with pytest.raises(UsageError, match="splits must share none"):
        ub.load_dataset(ub.RunSettings(dataset=f"csv[{files}]", cache=tmp_path / "cache"))
    # By another path, and by a link.
    (tmp_path / "below").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "1.png")
    for other in ("below/../1.png", "link.png"):
        (tmp_path / "test.csv").write_text(f"filepath,title\n{other},caption\n")
        assert main(["run", *flags, "--batch-size", "2", "--dry-run"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.endswith(f"image {tmp_path}/{other} is in train and in test; splits must share none")


def test_equal_images_of_two_splits_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only a warning, as published splits contain some; names and formats of the files may differ."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(6)]
    images.append(images[2].copy())
    images[6][5, 7] ^= 1  # nearly an image of train
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    Image.fromarray(images[1]).save(tmp_path / "copy.bmp")
    Image.fromarray(images[1]).save(tmp_path / "copy.png", compress_level=0)
    for split, names in {"train": "012", "val": "3", "test": "4565"}.items():
        own = [f"{name}.png" for name in dict.fromkeys(names)] + ["copy.bmp", "copy.png"] * (split == "test")
        (tmp_path / f"{split}.csv").write_text("filepath,title\n" + "".join(f"{name},a {name}\n" for name in own))
    files = ",".join(f"{split}={tmp_path}/{split}.csv" for split in ("train", "val", "test"))
    flags = ["--dataset", f"csv[{files}]", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    assert main(["run", "--attack", "clean", *flags, "--batch-size", "2", "--dry-run"]) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "pixel by pixel" in line]
    assert "2 of 5 test images equal one of train" in warning
    assert f"{tmp_path}/copy.bmp and {tmp_path}/1.png" in warning


def test_many_images_that_agree_in_some_pixels_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    """White images, but for one pixel: as many as make a comparison of all pairs hopeless."""
    pixels = np.full((20_000, 3, 16, 16), 255, np.uint8)
    pixels[:, 0, 0, 0] = np.arange(20_000) % 251
    pixels[:, 1, 0, 0] = np.arange(20_000) // 251

    def split(name: str, images: Images) -> CaptionDataset:
        return CaptionDataset("made", name, images, [["a"]] * len(images))

    train, val = split("train", pixels[:10_000]), split("val", pixels[10_000:10_001])
    warn_of_equal_images(Splits(train, val, split("test", pixels[10_001:])))
    assert not caplog.records
    warn_of_equal_images(Splits(train, val, split("test", pixels[1:10_000])))
    (told,) = caplog.messages
    assert "9,999 of 9,999 test images equal one of train pixel by pixel, e.g. image 1 of test and image 2" in told


def test_verbose_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--attack", "mem33", "--verbose"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("attacks", "mem[k=3,eps=8"),
        ("attacks", "mem3  = mem[k=3]"),
        ("defenses", "prefix-drop[n=3]"),
        ("defenses", "table2  = adv-training, random-noise, mixup, cutout, random-insertion"),
        ("victims", "ViT-B-32[pretrained=none, repeat=1]  224 px"),
        ("datasets", "karpathy[json,images"),
        ("presets", "tiny  minutes on two CPU cores"),
        ("attacks", "A preset sets other values than these defaults"),
    ],
)
def test_lists(kind: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 0
    assert any(line.startswith(expected) for line in capsys.readouterr().out.splitlines())

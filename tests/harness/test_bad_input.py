"""Bad input: one clear line, exit code 2, nothing half-written."""

from pathlib import Path

import pytest

from benchmark.cli import main

SCENES = "scenes[train=40,val=8,test=12,objects=30]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--attack", "mem33"], "did you mean 'mem3'"),
        (["--attack", "mem3[eps=128]"], "eps, in 1/255, must be between 1 and 127"),
        (["--attack", "mem3[eps=0.03]"], "takes an integer"),
        (["--attack", "mem3[epsilon=8]"], "did you mean 'eps'"),
        (["--attack", "mem[k=3"], "without its ']'"),
        (["--attack", ""], "names nothing"),
        (["--attack", "poison[file=nowhere.safetensors]"], "no poison file nowhere.safetensors"),
        (["--attack", "poison"], "needs file=…"),
        (["--defense", "cut-out"], "did you mean 'cutout'"),
        (["--defense", "cutout[size=3]"], "size"),
        (["--defense", "cutout+all"], "group"),
        (["--defense", "cutout+cutout"], "twice"),
        (["--defense", "adv-training[eps=-1]"], "eps"),
        (["--dataset", "scene"], "did you mean 'scenes'"),
        (["--dataset", "scenes[train=0]"], "train"),
        (["--dataset", "csv[train=nowhere.csv,test=nowhere.csv]"], "nowhere.csv"),
        (["--dataset", "csv[test=nowhere.csv]"], "needs train=…"),
        (["--dataset", "webdataset[train=no-{0..3}.tar,test={a,b}.tar]"], "shard no-0.tar does not exist"),
        (["--dataset", "flickr8k[root=nowhere]"], "folder nowhere does not exist"),
        (["--dataset", "imagefolder[root=nowhere]"], "folder nowhere cannot be read"),
        (["--skip-bad"], "--skip-bad: data set scenes reads no files"),
        (["--victim", "RN5"], "did you mean 'RN50'"),
        (["--victim", "ViT-B-16-SigLIP"], "another tokenizer"),
        (["--victim", "tiny[pretrained=nowhere.pt]"], "neither a file nor a tag"),
        (["--surrogate", "RN50"], "a poison is made for one resolution"),
        (["--seeds", "many"], "count or a comma list"),
        (["--seeds", "0"], "at least 1"),
        (["--seeds", "20240501"], "'20240501,' is one seed"),
        (["--preset", "papr"], "did you mean 'paper'"),
        (["--epochs", "few"], "--epochs takes an integer"),
        (["--epochs", "0"], "epochs must be at least 1"),
        (["--rows", "both"], "--rows takes pairs or images"),
        (["--batch-size", "64"], "40 training rows are fewer than one batch of 64"),
        (["--device", "cuda:99"], "cannot be used here"),
        (["--rerun", "some"], "invalid choice"),
        (["--colour", "red"], "unrecognized arguments"),
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


def test_a_checkpoint_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "start.pt", tmp_path / "runs"
    file.write_text("not a checkpoint")
    words = ["run", "--attack", "clean", "--dataset", SCENES, "--batch-size", "16", "--out", str(out)]
    assert main([*words, "--victim", f"tiny[pretrained={file}]"]) == 2
    assert "cannot load the victim" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["table", "2", "--records", "nowhere"], "no folder of records nowhere"),
        (["table", "3"], "invalid choice"),
        (["list", "attack"], "invalid choice"),
        (["ran"], "invalid choice"),
        ([], "required"),
    ],
)
def test_other_commands(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_records_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert main(["table", "2", "--records", str(tmp_path)]) == 2
    assert "x.json is not a readable record" in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--attack", "mem33", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("attacks", "mem[k=3,eps=8"),
        ("attacks", "mem3  = mem[k=3]"),
        ("defenses", "prefix-drop[n=3]"),
        ("defenses", "table2  = adv-training, random-noise, mixup, cutout, random-insertion"),
        ("victims", "ViT-B-32[pretrained=none]  224 px"),
        ("datasets", "karpathy[json,images"),
        ("presets", "tiny[dataset=scenes,victim=tiny,surrogate=tiny]  "),
    ],
)
def test_lists(kind: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 0
    assert any(line.startswith(expected) for line in capsys.readouterr().out.splitlines())

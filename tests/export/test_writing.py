"""All of an export or nothing, and a manifest that says what is measured."""

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmark.core.disk_space
import benchmark.export.layouts
from attacks.poison import Poison
from benchmark.cli.main import main
from benchmark.core.atomic_files import replacing_folder
from benchmark.core.errors import UsageError
from benchmark.core.progress import Silent
from benchmark.data import Splits
from benchmark.data.difference import compare
from benchmark.export import job
from benchmark.export.layouts.folder import Folder
from benchmark.export.verify_export import verify_export
from benchmark.export.writing import write_export
from benchmark.grid.settings import RunSettings
from tests.export.exports import export, make_poison, make_source, make_splits
from tests.memory import AnonymousPeak, linux_only
from tests.small import make_dataset, make_mapped_dataset


@pytest.mark.parametrize("layout", ["folder", "webdataset"])
def test_an_export_killed_half_way_leaves_nothing_under_its_name(layout: str, tmp_path: Path) -> None:
    def killed(content: bytes, *rest: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    clean = make_splits()
    source = make_source(clean, make_poison(clean.train))
    child = os.fork()
    if child == 0:
        try:  # else an error would go on with the other tests in here as well
            benchmark.export.layouts.Sample.__init__ = _dying_after(3, killed)  # type: ignore[method-assign]
            write_export(tmp_path / "out", layout, source, "")
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    left = [path.name for path in tmp_path.iterdir()]
    assert left  # a folder and its lock
    assert all(name.startswith(".out.") for name in left)
    # The same command again clears it away.
    write_export(tmp_path / "out", layout, source, "")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert all(finding.holds for finding in verify_export(tmp_path / "out", None, tmp_path))


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    clean = make_splits()
    source = make_source(clean, make_poison(clean.train))
    with replacing_folder(tmp_path / "out") as other:
        write_export(tmp_path / "out", "folder", source, "")
        assert other.is_dir()
        (tmp_path / "out").rename(tmp_path / "elsewhere")


def _dying_after(count: int, die: Any) -> Any:
    init, made = benchmark.export.layouts.Sample.__init__, []

    def dying(self: Any, *args: Any) -> None:
        made.append(1)
        if len(made) > count:
            die(b"")
        init(self, *args)

    return dying


def test_a_full_disk_is_one_line_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if self.name == "00000002.png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match=r"^cannot write .*out: No space left on device$"):
        export(tmp_path / "out", "csv")
    assert list(tmp_path.iterdir()) == []


def test_space_is_required_before_the_first_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = benchmark.core.disk_space.shutil.disk_usage(tmp_path)
    pixels = 15 * 3 * 16 * 16
    monkeypatch.setattr(benchmark.core.disk_space.shutil, "disk_usage", lambda folder: usage._replace(free=pixels))
    monkeypatch.setattr(Folder, "write", lambda *a: pytest.fail("wrote"))
    with pytest.raises(UsageError, match=r"cannot write .*out: needs .* MiB of free space"):
        export(tmp_path / "out", "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(out, "folder", ("train",))  # empty is as good as not there
    before = sorted(out.rglob("*"))
    with pytest.raises(UsageError, match="not empty"):
        export(out, "csv")
    with pytest.raises(UsageError, match="cannot write"):
        export(out / "manifest.json", "csv")
    assert sorted(out.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--attack", "mem3,em"], "an export takes one attack"),
        (["--victim", "tiny,RN50"], "an export takes one attack"),
        (["--seed", "-1"], "--seed takes a seed from 0 to 2147483647, got -1"),
        (["--seed", "one"], "--seed takes an integer, got 'one'"),
        (["--format", "zip"], "unknown --format 'zip'; available: folder, "),
        (["--licence", "free; for all"], "--licence takes an SPDX name such as CC-BY-4.0"),
        (["--licence", "MIT"], "--licence MIT: scenes[train=8,val=2,test=2,objects=30] is under CC-BY-SA-4.0"),
        (["--splits", "test"], "unknown --splits 'test'; available: train, all"),
        (["--precision", "fp8"], "--precision takes"),
        (["--attack", "mem33"], "did you mean 'mem3'"),
        (["--attack", "clean", "--keep-resolution"], "has no image files, so there is no original resolution to keep"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--dataset": "scenes[train=8,val=2,test=2,objects=30]", "--out": str(tmp_path / "out"), "--format": "csv"}
    words = [word for pair in given.items() if pair[0] not in arguments for word in pair]
    assert main(["export", *words, *arguments, "--poisons", str(tmp_path / "poisons")]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "poisons").exists()


@pytest.mark.parametrize(
    ("attack", "layout", "licence", "said"),
    [
        ("clean", "zip", None, "unknown format 'zip'"),
        ("clean", "csv", "free; for all", "an SPDX name such as CC-BY-4.0"),
        ("clean", "csv", "MIT", "is under CC-BY-SA-4.0"),
        ("mem3,em", "csv", None, "an export takes one attack"),
    ],
)
def test_functions_refuse_bad_words_before_any_work(
    attack: str, layout: str, licence: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.export.job.open_grid", lambda *_, **__: pytest.fail("works"))
    settings = RunSettings(attack=attack, defense="none", seeds="1,")
    with pytest.raises(UsageError, match=said):
        job.export(settings, tmp_path / "out", layout, command="", licence=licence)


def plain_ssim(clean: np.ndarray, noisy: np.ndarray) -> float:
    """Wang et al. 2004 pixel by pixel: Gaussian window of 11 pixels, σ = 1.5, edges mirrored."""
    weights = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(weights, weights) / weights.sum() ** 2
    values = []
    for a, b in zip(clean / 255, noisy / 255, strict=True):
        a, b = np.pad(a, 5, mode="reflect"), np.pad(b, 5, mode="reflect")
        for row in range(clean.shape[1]):
            for column in range(clean.shape[2]):
                x, y = a[row : row + 11, column : column + 11], b[row : row + 11, column : column + 11]
                mx, my = (window * x).sum(), (window * y).sum()
                vx, vy = (window * x * x).sum() - mx**2, (window * y * y).sum() - my**2
                cov = (window * x * y).sum() - mx * my
                c1, c2 = 0.01**2, 0.03**2
                values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(values))


def test_the_quality_of_noise_equals_a_plain_computation() -> None:
    clean = make_dataset(images=70, resolution=12).images[:]  # more images than one chunk
    poison = make_poison(make_dataset(images=70, resolution=12), eps=30)
    protected = poison.protect(make_dataset(images=70, resolution=12)).images[:]
    quality = compare(clean, protected, Silent())
    difference = protected.astype(float) - clean
    assert quality["largest"] == np.abs(difference).max()
    assert quality["mean"] == pytest.approx(np.abs(difference).mean())
    assert quality["psnr"] == pytest.approx(10 * np.log10(255**2 / (difference**2).mean()))
    chosen = [0, 33, 69]
    few = compare(clean[chosen], protected[chosen], Silent())
    assert few["ssim"] == pytest.approx(np.mean([plain_ssim(clean[i], protected[i]) for i in chosen]), abs=1e-5)
    assert quality["ssim"] == pytest.approx(
        np.mean([compare(clean[[i]], protected[[i]], Silent())["ssim"] for i in range(70)]), abs=1e-6
    )


def test_the_manifest_says_what_the_export_is(tmp_path: Path) -> None:
    clean = make_splits()
    two = np.full(clean.train.images.shape, 2, np.int8)
    images = clean.train.images[:].clip(0, 250)
    clean = replace(clean, train=replace(clean.train, images=images))
    poison = Poison(two, ["red dog"] * 5, 8, clean.train.fingerprint, False, {"seconds": 1.5})
    write_export(tmp_path / "out", "csv", make_source(clean, poison), "the command")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))
    assert manifest["format"] == "unlearnable-bench export 1"
    assert (manifest["eps"], manifest["seed"], manifest["resolution"], manifest["surrogate"]) == (8, 7, 16, "tiny")
    assert manifest["noise"]["largest"] == 2
    assert manifest["noise"]["psnr"] == pytest.approx(20 * np.log10(255 / 2))
    assert manifest["noise"]["ssim_window"] == 11
    assert manifest["attack"]["label"] == "MEM-3"
    assert manifest["attack"]["params"]["k"] == 3
    assert manifest["attack"]["provenance"] == {"seconds": 1.5}
    assert manifest["triggers"] == ["red dog"] * 5
    assert manifest["command"] == "the command"
    assert {"torch", "pillow", "unlearnable-bench", "python"} <= manifest["versions"].keys()
    assert "defined at the victim's resolution" in manifest["note"]
    assert manifest["full_size"] is None
    assert len(manifest["files"]) == 15 + 3 + 2
    assert manifest["licence"] is None
    facts = manifest["files"]["train/00000003.png"]
    assert facts["bytes"] == (tmp_path / "out" / "train" / "00000003.png").stat().st_size
    splits = {name: (facts["images"], facts["captions"]) for name, facts in manifest["splits"].items()}
    assert splits == {"train": (5, 10), "val": (5, 10), "test": (5, 10)}


@pytest.mark.parametrize(
    ("layout", "flags"),
    [
        ("csv", "--train-data train.csv --csv-separator , --logs ../logs"),
        ("webdataset", "--train-data train-000000.tar --train-num-samples 8 --workers 1 --logs ../logs"),
        ("folder", ""),
    ],
)
def test_the_command_ends_with_how_open_clip_trains_on_it(
    layout: str, flags: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my export"
    command = ["export", "--attack", "clean", "--dataset", "scenes[train=8,val=2,test=2,objects=30]"]
    assert main([*command, "--format", layout, "--out", str(out), "--cache", str(tmp_path / "cache")]) == 0
    last = capsys.readouterr().err.splitlines()[-1].strip()
    expected = f"cd '{out}' && python -m open_clip_train.main {flags}"
    assert last == expected if flags else last.startswith(f"wrote {out}")


@linux_only
@pytest.mark.slow
def test_neither_images_nor_noise_are_held_in_memory(tmp_path: Path) -> None:
    train = make_mapped_dataset(tmp_path / "images.npy", 2000, 1, 80)  # 37 MiB of pixels
    path = tmp_path / "p.safetensors"
    make_poison(train).save(path)
    clean = Splits(train, *(getattr(make_splits(), name) for name in ("val", "test")))
    source = make_source(clean, Poison.load(path), ("train",))
    export(tmp_path / "warm", "folder")
    with AnonymousPeak() as memory:
        write_export(tmp_path / "out", "webdataset", source, "")
        assert all(finding.holds for finding in verify_export(tmp_path / "out", None, tmp_path))
    assert memory.peak - memory.before < 37

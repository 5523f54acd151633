"""The data card and the Croissant file beside an export: what they say is true, and checked as the rest is."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import benchmark.export.writing
from attacks.poison import Poison
from benchmark.cli.main import main
from benchmark.core.digests import file_sha256
from benchmark.core.errors import UsageError
from benchmark.export.layouts import LAYOUTS
from benchmark.export.manifest import Manifest
from benchmark.export.verify_export import verify_export
from benchmark.export.writing import write_export
from benchmark.grid.choices import choose_attacks, choose_dataset
from benchmark.grid.presets import PRESETS
from tests.export.exports import ALL, EPS, export, make_poison, make_source, make_splits
from victims.architecture import Architecture


def header_of(folder: Path) -> dict[str, Any]:
    _, header, _ = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    content: dict[str, Any] = yaml.safe_load(header)
    return content


@pytest.mark.parametrize("layout", LAYOUTS.group("all"))
def test_equal_exports_have_equal_bytes(layout: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export(tmp_path / name, layout)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert {Path("README.md"), Path("croissant.json"), Path("manifest.json")} < set(files)
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


@pytest.mark.parametrize("layout", LAYOUTS.group("all"))
def test_the_checksum_is_what_its_command_prints(layout: str, tmp_path: Path) -> None:
    export(tmp_path / "out", layout)
    text = (tmp_path / "out" / "README.md").read_text("utf-8")
    (command,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    printed = subprocess.run(["sh", "-c", command], cwd=tmp_path / "out", capture_output=True, text=True, check=True)
    assert f"`{printed.stdout.split()[0]}`" in text


@pytest.mark.parametrize("layout", LAYOUTS.group("all"))
def test_croissant_names_every_file_with_its_hash(layout: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    export(folder, layout)
    content = json.loads((folder / "croissant.json").read_text("utf-8"))
    covered = set()
    for entry in content["distribution"]:
        if entry["@type"] == "cr:FileObject":
            assert entry["sha256"] == file_sha256(folder / entry["contentUrl"])
            covered.add(entry["contentUrl"])
        elif "containedIn" not in entry:
            covered |= {path.relative_to(folder).as_posix() for path in folder.glob(entry["includes"])}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert covered == files - {"README.md", "croissant.json", "manifest.json"}


def test_the_card_says_what_the_export_is(tmp_path: Path) -> None:
    clean = make_splits()
    job = make_source(clean, make_poison(clean.train))
    paths = choose_dataset("csv[train=/home/me/secret.csv,test=/home/me/secret.csv]")
    job = replace(job, licence="CC-BY-4.0", cell=replace(job.cell, dataset=paths))
    write_export(tmp_path, "csv", job, "python -m benchmark export --dataset /home/me/secret.csv")
    text = (tmp_path / "README.md").read_text("utf-8")
    assert header_of(tmp_path)["license"] == "cc-by-4.0"
    assert f"ε = {EPS}/255" in text
    assert "MEM-3 (`mem3`), seed 7" in text
    assert f"| train | 5 | 10 | {job.published['train'].fingerprint} |" in text
    croissant = json.loads((tmp_path / "croissant.json").read_text("utf-8"))
    assert croissant["license"] == "CC-BY-4.0"
    # Where the originals lie on the owner's machine is nobody's business.
    assert "secret" not in text + json.dumps(croissant)


def texts_of(folder: Path) -> tuple[str, str]:
    card, croissant = ((folder / name).read_text("utf-8") for name in ("README.md", "croissant.json"))
    return card, croissant


@pytest.mark.parametrize("secret", ["secret", "secret|place", "secret `place`"])
def test_neither_file_tells_where_the_owners_files_lie(secret: str, tmp_path: Path) -> None:
    clean = make_splits()
    poison = make_poison(clean.train)
    (tmp_path / secret).mkdir()
    poison.save(tmp_path / secret / "x|y.safetensors")
    job = make_source(clean, poison)
    _, attack = choose_attacks(f"poison[file={tmp_path / secret}/x|y.safetensors]", PRESETS["tiny"])
    surrogate = Architecture("RN50", f"/home/me/{secret}/w.pt")
    texts: list[str] = []
    for name, cell in (("stored", replace(job.cell, attack=attack)), ("mem", replace(job.cell, surrogate=surrogate))):
        write_export(tmp_path / name, "csv", replace(job, cell=cell), "")
        texts += texts_of(tmp_path / name)
    for text in texts:
        assert "secret" not in text
        assert "/home" not in text
        assert str(tmp_path) not in text
        assert "safetensors" not in text
        assert "w.pt" not in text
    assert r"| attack | Poison x\|y (`poison`), seed 7 |" in texts[0]
    assert "| crafted for | images of 16 × 16 px, by the surrogate RN50 |" in texts[2]


@pytest.mark.parametrize(("spec", "surrogate"), [("mem3", "tiny"), ("uniform-noise", None), ("lsp", None)])
def test_only_a_surrogate_that_the_attack_builds_is_named(spec: str, surrogate: str | None, tmp_path: Path) -> None:
    clean = make_splits()
    job = make_source(clean, make_poison(clean.train))
    _, attack = choose_attacks(spec, PRESETS["tiny"])
    write_export(tmp_path, "csv", replace(job, cell=replace(job.cell, attack=attack)), "")
    assert Manifest.load(tmp_path).surrogate == surrogate
    said = "images of 16 × 16 px" + (f", by the surrogate {surrogate}" if surrogate else "")
    assert f"| crafted for | {said} |" in texts_of(tmp_path)[0]
    assert all(finding.holds for finding in verify_export(tmp_path, None, tmp_path))


def test_other_parameters_stay(tmp_path: Path) -> None:
    clean = make_splits()
    job = make_source(clean, make_poison(clean.train))
    _, attack = choose_attacks("mem3[rounds=6,optimizer=muon,lr=0.001]", PRESETS["tiny"])
    job = replace(job, cell=replace(job.cell, attack=attack, surrogate=Architecture("RN50", "openai")))
    write_export(tmp_path, "csv", job, "")
    card, _ = texts_of(tmp_path)
    assert "(`mem3[rounds=6,optimizer=muon,lr=0.001]`), seed 7 |" in card
    assert "by the surrogate RN50[pretrained=openai] |" in card


@pytest.mark.parametrize("trigger", [None, [""] * 5], ids=["no triggers", "empty triggers"])
def test_clean_data_are_not_called_unlearnable(trigger: list[str] | None, tmp_path: Path) -> None:
    clean = make_splits()
    job = make_source(clean, Poison(None, trigger, 0, clean.train.fingerprint))
    (attack,) = choose_attacks("clean", PRESETS["tiny"])
    write_export(tmp_path, "csv", replace(job, cell=replace(job.cell, attack=attack)), "")
    card, croissant = texts_of(tmp_path)
    said = "Images and captions that no attack has changed: Clean on scenes. Drawings by "
    assert json.loads(croissant)["description"].startswith(said)
    assert header_of(tmp_path)["tags"] == ["image-text-pairs"]
    assert "no attack has changed" in card
    for word in ("learn little", "nlearnable", "poison", "noise", "ε", "crafted"):
        assert word not in card
    assert "| attack | none, seed 7 |" in card
    assert "| images | 16 × 16 px |" in card
    assert f"| val | 5 | 10 | {clean.val.fingerprint} |" in card


@pytest.mark.parametrize("part", ["noise", "trigger"])
def test_either_change_makes_data_unlearnable(part: str, tmp_path: Path) -> None:
    clean = make_splits()
    whole = make_poison(clean.train)
    half = replace(whole, trigger=None) if part == "noise" else replace(whole, delta=None, eps=0)
    write_export(tmp_path, "csv", make_source(clean, half), "")
    card, croissant = texts_of(tmp_path)
    bound = f"ε = {half.eps}/255"
    said = f"Unlearnable examples: MEM-3 on scenes, {bound}. Drawings by "
    assert json.loads(croissant)["description"].startswith(said)
    assert header_of(tmp_path)["tags"][0] == "unlearnable-examples"
    assert f"| bound | {bound} on every pixel value" in card
    assert "learn little" in card


@pytest.mark.parametrize("name", ["README.md", "croissant.json"])
def test_a_changed_card_is_seen(name: str, tmp_path: Path) -> None:
    export(tmp_path / "out", "folder")
    path = tmp_path / "out" / name
    path.write_text(path.read_text("utf-8").replace(f"{EPS}/255", "1/255"), "utf-8")
    assert f"✗ changed files: {name}" in map(str, verify_export(tmp_path / "out", None, tmp_path))


def test_a_card_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(benchmark.export.writing, "croissant", full)
    with pytest.raises(UsageError, match="No space left"):
        export(tmp_path / "out", "folder")
    assert list(tmp_path.iterdir()) == []


def test_manifests_of_earlier_versions_name_no_licence(tmp_path: Path) -> None:
    export(tmp_path / "out", "folder")
    path = tmp_path / "out" / "manifest.json"
    content = json.loads(path.read_text("utf-8"))
    del content["licence"]
    path.write_text(json.dumps(content), "utf-8")
    assert Manifest.load(tmp_path / "out").licence is None


@pytest.mark.parametrize("flags", [[], ["--licence", "CC-BY-SA-4.0"]], ids=" ".join)
def test_the_licence_is_the_data_sets_and_names_whom_it_asks_to_name(flags: list[str], tmp_path: Path) -> None:
    command = ["export", "--attack", "clean", "--dataset", "scenes[train=8,val=2,test=2,objects=30]", *flags]
    out = tmp_path / "out"
    assert main([*command, "--format", "csv", "--out", str(out), "--cache", str(tmp_path / "cache")]) == 0
    assert Manifest.load(out).licence == "CC-BY-SA-4.0"
    assert header_of(out)["license"] == "cc-by-sa-4.0"
    croissant = json.loads((out / "croissant.json").read_text("utf-8"))
    for text in ((out / "README.md").read_text("utf-8"), croissant["description"]):
        assert "Drawings by OpenMoji (https://openmoji.org), CC BY-SA 4.0 (https://creative" in text
    assert "citeAs" not in croissant  # no attack, no paper


@pytest.mark.parametrize("licence", [None, "CC-BY-4.0"])
def test_the_licence_of_ones_own_data_is_the_one_that_is_named(licence: str | None, tmp_path: Path) -> None:
    data, out = make_splits(resolution=64), tmp_path / "out"
    write_export(tmp_path / "own", "csv", make_source(data, Poison(None, None, 0, data.train.fingerprint)), "")
    spec = f"csv[{','.join(f'{split}={tmp_path}/own/{split}.csv' for split in ALL)}]"
    flags = [] if licence is None else ["--licence", licence]
    command = ["export", "--attack", "clean", "--dataset", spec, "--format", "csv", *flags]
    assert main([*command, "--out", str(out), "--cache", str(tmp_path / "cache")]) == 0
    assert Manifest.load(out).licence == licence
    assert header_of(out)["license"] == ("unknown" if licence is None else "cc-by-4.0")

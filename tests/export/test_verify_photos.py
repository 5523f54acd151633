"""``verify`` on protected photos: what is intact passes, and each deviation is named."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attacks.em_wordwise import WordwiseEm
from benchmark.cli.main import main
from benchmark.core.digests import file_sha256
from benchmark.export.protected import Protection
from tests.export.photo_files import PROFILE, many_photos, with_table
from tests.export.protecting import protect, rows_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven photos, protected as PNG and as JPEG."""
    place = tmp_path_factory.mktemp("verified")
    with_table(place / "photos")
    for kind in ("png", "jpeg"):
        assert protect(place / "photos", place / kind, "--format", kind) == 0
    return place


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def forge(folder: Path, name: str) -> None:
    """Make the manifest say what a changed file is."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_what_was_written_passes(kind: str, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(made / kind)]) == 0
    assert main(["verify", str(made / kind), "--against", str(made / "photos")]) == 0
    text = capsys.readouterr().out
    assert ("within ε = 8/255 of its original; the largest difference is 8" in text) == (kind == "png")
    assert ("– ε cannot be verified pixel by pixel" in text) == (kind == "jpeg")
    assert "✗" not in text


def brighter(folder: Path) -> str:
    with Image.open(folder / "wide.png") as image:
        Image.fromarray((np.asarray(image).astype(int) + 9).clip(0, 255).astype(np.uint8)).save(folder / "wide.png")
    return "wide.png"


def without_profile(folder: Path) -> str:
    with Image.open(folder / "turned.png") as image:
        assert image.info.pop("icc_profile") == PROFILE
        image.save(folder / "turned.png", icc_profile=None)
    return "turned.png"


def opaque(folder: Path) -> str:
    with Image.open(folder / "seen through.png") as image:
        image.convert("RGB").save(folder / "seen through.png")
    return "seen through.png"


def another_row(folder: Path) -> str:
    with (folder / "captions.csv").open("a", encoding="utf-8") as table:
        table.write("../other.jpg,words\n")
    return "captions.csv"


def smaller(folder: Path) -> str:
    with Image.open(folder / "wide.png") as image:
        image.crop((0, 0, 80, 60)).save(folder / "wide.png")
    return "wide.png"


def grey(folder: Path) -> str:
    with Image.open(folder / "wide.png") as image:
        image.convert("L").save(folder / "wide.png")
    return "wide.png"


def other_format(folder: Path) -> str:
    Image.open(folder / "wide.png").save(folder / "wide.png", "BMP")
    return "wide.png"


def other_words(folder: Path) -> str:
    rows = list(csv.reader((folder / "captions.csv").read_text(encoding="utf-8").splitlines()))
    rows[1][1] = "other words"
    (folder / "captions.csv").write_text("\n".join(f'"{a}","{b}"' for a, b in rows) + "\n", encoding="utf-8")
    return "captions.csv"


def half_a_row(folder: Path) -> str:
    (folder / "captions.csv").write_text("title,filepath\nwords\nwords,wide.png\n", encoding="utf-8")
    return "captions.csv"


def no_titles(folder: Path) -> str:
    (folder / "captions.csv").write_text("filepath,caption\nwide.png,words\n", encoding="utf-8")
    return "captions.csv"


def no_row(folder: Path) -> str:
    text = (folder / "captions.csv").read_text(encoding="utf-8").splitlines()
    (folder / "captions.csv").write_text("\n".join(text[:-1]) + "\n", encoding="utf-8")
    return "captions.csv"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (brighter, "photos more than ε = 8/255 from their originals: wide.png by 17/255"),
        (without_profile, "other colour profiles: turned.png"),
        (smaller, "originals not found, or of another size or colour mode: wide.webp"),
        (grey, "originals not found, or of another size or colour mode: wide.webp"),
        (other_format, "bad photos: wide.png: cannot be read: not an image in the format PNG"),
        (other_words, "captions that are not the originals': "),
        (no_row, "photos without all their captions or triggers: "),
        (half_a_row, "captions.csv cannot be read: a row names no file"),
        (no_titles, "captions.csv cannot be read: it lacks the column title"),
        (opaque, "other transparency: seen through.png"),
        (another_row, "rows of captions.csv for other files: ../other.jpg"),
    ],
    ids=[
        "brighter",
        "without-profile",
        "smaller",
        "grey",
        "other-format",
        "other-words",
        "no-row",
        "half-a-row",
        "no-titles",
        "opaque",
        "another-row",
    ],
)
def test_a_deviation_is_named_even_behind_a_true_hash(
    change: Callable[[Path], str], message: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forge(copied / "png", change(copied / "png"))
    assert main(["verify", str(copied / "png"), "--against", str(copied / "photos")]) == 1
    assert f"✗ {message}" in capsys.readouterr().out


def test_photos_that_were_added_since_are_missing_beside_those_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    many_photos(photos, 5)
    (photos / "001.jpg").write_bytes(b"no picture")
    assert protect(photos, out, "--skip-bad") == 0
    assert main(["verify", str(out), "--against", str(photos)]) == 0
    assert "– 1 of 5 photos of" in capsys.readouterr().out
    many_photos(photos / "later", 1)
    assert main(["verify", str(out), "--against", str(photos)]) == 1
    assert "✗ originals that are missing: later/000.jpg\n" in capsys.readouterr().out


def test_a_photo_that_the_manifest_has_no_longer_is_found(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copied / "png" / "manifest.json"
    manifest = json.loads(path.read_text())
    left = manifest["photos"].pop()
    path.write_text(json.dumps(manifest))
    assert main(["verify", str(copied / "png")]) == 1
    assert f"✗ files that the manifest does not list as photos: {left['file']}" in capsys.readouterr().out


def test_links_that_lead_in_a_circle_are_found(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("wide.png", "captions.csv"):
        (copied / "png" / name).unlink()
        (copied / "png" / name).symlink_to(name)
    assert main(["verify", str(copied / "png")]) == 1
    assert "✗" in capsys.readouterr().out


def test_captions_may_be_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many_photos(tmp_path / "photos", 4)
    (tmp_path / "photos/002.txt").write_text("a dog in the park " * 10_000 + "\n")
    attack = "mem-wordwise[restarts=1,steps=2,hotflip_rounds=1,surrogate_steps=2,candidates=2]"
    assert protect(tmp_path / "photos", tmp_path / "out", "--attack", attack) == 0
    assert main(["verify", str(tmp_path / "out")]) == 0, capsys.readouterr().out


def test_another_photo_a_changed_byte_and_a_path_that_leads_out_are_found(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copied / "jpeg"
    (out / "mine.jpg").write_bytes(b"x")
    content = bytearray((out / "wide.jpg").read_bytes())
    content[-3] ^= 1
    (out / "wide.jpg").write_bytes(content)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["photos"][1]["file"] = "../photos/holiday/beach.png"
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert main(["verify", str(out)]) == 1
    text = capsys.readouterr().out
    assert "✗ files that are not in the manifest: mine.jpg" in text
    assert "✗ changed files: wide.jpg" in text
    assert "leads out of the folder" in text


def test_a_manifest_that_is_none_is_one_line(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copied / "png/manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["photos"][0]["source"]
    path.write_text(json.dumps(manifest))
    assert main(["verify", str(copied / "png")]) == 2
    assert "is not a valid manifest" in capsys.readouterr().err
    manifest["photos"][0] = manifest["photos"][1]
    path.write_text(json.dumps(manifest))
    assert main(["verify", str(copied / "png")]) == 2
    assert f"it lists {manifest['photos'][1]['file']} twice" in capsys.readouterr().err
    path.write_text("{")
    assert main(["verify", str(copied / "png"), "--against", str(copied / "photos")]) == 2
    assert "is not a valid manifest" in capsys.readouterr().err
    path.unlink()
    assert main(["verify", str(copied / "png"), "--against", str(copied / "photos")]) == 2
    assert "has no manifest.json, so it is neither an export nor a folder of protected" in capsys.readouterr().err


def test_jpegs_far_from_their_originals_are_found(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = copied / "jpeg" / "wide.jpg"
    with Image.open(file) as image:
        pixels = np.asarray(image).astype(int)
    Image.fromarray((pixels + 20).clip(0, 255).astype(np.uint8)).save(file, quality=95)
    forge(copied / "jpeg", "wide.jpg")
    assert main(["verify", str(copied / "jpeg"), "--against", str(copied / "photos")]) == 1
    said = "✗ photos further from their originals than ε = 8/255 and JPEG's own loss on average: wide.jpg by "
    assert said in capsys.readouterr().out


def test_what_jpeg_alone_changes_is_no_deviation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Low quality changes grain by far more than ε."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    many_photos(photos, 3)
    grain = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(grain).save(photos / "000.png")
    (photos / "000.jpg").unlink()
    assert protect(photos, out, "--quality", "20") == 0
    assert np.abs(np.asarray(Image.open(out / "000.jpg")).astype(int) - grain).mean() > 20
    assert main(["verify", str(out), "--against", str(photos)]) == 0, capsys.readouterr().out
    Image.new("RGB", (80, 60)).save(out / "000.jpg")
    forge(out, "000.jpg")
    assert main(["verify", str(out), "--against", str(photos)]) == 1
    assert "JPEG's own loss on average: 000.jpg by 1" in capsys.readouterr().out


@pytest.mark.parametrize("built", [True, False])
def test_only_a_surrogate_that_the_attack_builds_is_named(
    built: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WordwiseEm, "builds_surrogate", built)
    many_photos(tmp_path / "photos", 6)
    assert protect(tmp_path / "photos", tmp_path / "out") == 0
    protection = Protection.load(tmp_path / "out")
    assert protection is not None
    assert (protection.surrogate is not None) == built


def test_triggers_may_be_empty_and_have_several_blanks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out, craft = tmp_path / "photos", tmp_path / "out", WordwiseEm.craft
    many_photos(photos, 6)
    triggers = ["", " ", "red  dog", "sun", "", "a b"]
    monkeypatch.setattr(WordwiseEm, "craft", lambda *given: replace(craft(*given), trigger=triggers))
    assert protect(photos, out) == 0
    assert [text.split()[:-4] for _, text in rows_of(out)] == [trigger.split() for trigger in triggers]
    assert main(["verify", str(out), "--against", str(photos)]) == 0, capsys.readouterr().out


def test_a_data_set_is_no_folder_of_originals(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(copied / "png"), "--against", "scenes"]) == 2
    said = "error: --against, for protected photos: scenes is neither a folder of photos nor a table of captions"
    assert capsys.readouterr().err.startswith(said)


def test_captions_without_their_triggers_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    many_photos(photos, 6)
    attack = "mem-wordwise[restarts=1,steps=2,hotflip_rounds=1,surrogate_steps=1]"
    assert protect(photos, out, "--attack", attack) == 0
    assert main(["verify", str(out), "--against", str(photos)]) == 0, capsys.readouterr().out
    rows = "".join(f"{name},{' '.join(text.split()[3:])}\n" for name, text in rows_of(out))
    (out / "captions.csv").write_text(f"filepath,title\n{rows}", encoding="utf-8")
    forge(out, "captions.csv")
    assert main(["verify", str(out)]) == 1
    assert "✗ photos without all their captions or triggers: 000.jpg" in capsys.readouterr().out

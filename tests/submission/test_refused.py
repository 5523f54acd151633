"""One forgery for each rule: each is told by a line of its own, and nothing is written."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from attacks.lsp import Lsp
from attacks.poison import Poison
from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.grid.presets import PRESETS
from benchmark.grid.records import Record
from benchmark.submission import page
from benchmark.submission import rules as rules_file
from benchmark.tables.entries import Entry
from tests.submission.submissions import COMPOSED, PRESET, RULES, forge, record_of, write_about
from tests.tables.factory import signed

Make = Callable[[str], Path]
LSP = "lsp[keys=4]"
PLACE = (LSP, "prefix-drop", 2)


def submit(folder: Path, *extra: str) -> int:
    words = ["submit", str(folder), "--out", str(folder.parent / "board"), "--device", "cpu", "--no-rerun", *extra]
    code = main(words)
    if code:
        assert not (folder.parent / "board").exists()
    return code


def broken(folder: Path, capsys: pytest.CaptureFixture[str], *extra: str) -> list[str]:
    """The lines of broken rules."""
    assert submit(folder, *extra) == 1
    lines = capsys.readouterr().out.splitlines()
    found = [line[2:] for line in lines if line.startswith("✗ ")]
    assert lines[-1].endswith(f"{len(found)} broken rule{'s' if len(found) > 1 else ''}; nothing was written")
    return found


def poison_of(folder: Path, seed: int) -> Path:
    (path,) = (folder / "poisons").glob(f"lsp-seed{seed}-*" if seed else "lsp*")
    return path


def changed(**fields: Any) -> Callable[[Path], None]:
    """Forges a field of a record."""
    return lambda folder: forge(folder, PLACE, lambda record: replace(record, **fields))


def within(field: str, **values: Any) -> Callable[[Path], None]:
    """Forges values within a record's ``poison``, ``provenance`` or ``recipe``."""

    def change(record: Record) -> Record:
        forged: dict[str, Any] = {field: {**getattr(record, field), **values}}
        return replace(record, **forged)

    return lambda folder: forge(folder, PLACE, change)


def chosen(part: str, params: dict[str, Any] | None = None, **fields: Any) -> Callable[[Path], None]:
    """Forges what a record says of its ``attack``, ``defense`` or ``dataset``."""

    def change(record: Record) -> Record:
        said = getattr(record, part)
        forged: dict[str, Any] = {part: replace(said, params={**said.params, **(params or {})}, **fields)}
        return replace(record, **forged)

    return lambda folder: forge(folder, PLACE, change)


def edited_by_hand(folder: Path) -> None:
    (path,) = (folder / "records").glob("*lsp*prefix-drop*seed2*")
    text = path.read_text("utf-8")
    path.write_text(text.replace('"recall_at_10":[', '"recall_at_10":[1', 1), "utf-8")


def not_finite(folder: Path) -> None:
    (path,) = (folder / "records").glob("*lsp*prefix-drop*seed2*")
    path.write_text(path.read_text("utf-8").replace('"loss":[', '"loss":[NaN,', 1), "utf-8")


def without(pattern: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        paths = list(folder.glob(pattern))
        assert paths
        for path in paths:
            path.unlink()

    return remove


def stored(change: Callable[[NDArray[np.int8]], dict[str, Any]]) -> Callable[[Path], None]:
    """Forges fields of a poison, made from its noise."""

    def forged(folder: Path) -> None:
        path = poison_of(folder, 2)
        poison = Poison.load(path)
        assert poison.delta is not None
        replace(poison, **change(poison.delta)).save(path)

    return forged


def of_nothing(folder: Path) -> None:
    path = poison_of(folder, 2)
    replace(Poison.load(path), delta=None, trigger=None).save(path)
    within("poison", loss_per_round=[3.2])(folder)


def swapped(folder: Path) -> None:
    first, second = poison_of(folder, 1), poison_of(folder, 2)
    one, other = Poison.load(first), Poison.load(second)
    replace(one, provenance={**one.provenance, "seed": 2}).save(second)
    replace(other, provenance={**other.provenance, "seed": 1}).save(first)


def flipped_byte(folder: Path) -> None:
    path = poison_of(folder, 2)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def without_hash(folder: Path) -> None:
    path = poison_of(folder, 2)
    with safe_open(path, framework="np") as file:
        header, delta = file.metadata()["poison"], file.get_tensor("delta")
    save_file({"delta": delta}, path, metadata={"poison": header})


def huge(folder: Path) -> None:
    path = poison_of(folder, 2)
    with path.open("r+b") as file:
        file.truncate(1 << 40)


def huge_record(folder: Path) -> None:
    with (folder / "records" / "huge.json").open("wb") as file:
        file.truncate(1 << 30)


def linked_record(folder: Path) -> None:
    (path,) = (folder / "records").glob("*lsp*prefix-drop*seed2*")
    path.rename(folder.parent / "elsewhere.json")
    path.symlink_to(folder.parent / "elsewhere.json")


def linked_folder(folder: Path) -> None:
    (folder / "poisons").rename(folder.parent / "elsewhere")
    (folder / "poisons").symlink_to(folder.parent / "elsewhere")


def twice(folder: Path) -> None:
    (path,) = (folder / "records").glob("*lsp*prefix-drop*seed2*")
    shutil.copy(path, path.with_name("again.json"))


def poison_twice(folder: Path) -> None:
    shutil.copy(poison_of(folder, 2), folder / "poisons" / "again.safetensors")


def failed(record: Record) -> Record:
    return replace(record.failed("OutOfMemoryError", "out of memory", ""), epochs=(), loss=())


FORGERIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a record edited by hand": (edited_by_hand, "does not match its SHA-256"),
    "a number that is not finite": (not_finite, "NaN where a number belongs"),
    "a huge record": (huge_record, "huge.json is larger than 1024 KiB"),
    "a record that is a link": (linked_record, "is a link; a submission holds the files themselves"),
    "a folder that is a link": (linked_folder, "poisons is not an ordinary folder"),
    "a pipe": (lambda folder: os.mkfifo(folder / "records" / "x.json"), "x.json is not a regular file"),
    "something else": (lambda folder: (folder / "poisons" / "x.pt").touch(), "only .safetensors files do"),
    "a record of an earlier format": (
        lambda folder: (folder / "records" / "x.json").write_text(
            signed({**record_of(folder, *PLACE).content(), "format": 2})
        ),
        "record format 2; this version reads format 3",
    ),
    "a seed is missing": (without("records/*seed3*"), "the seeds are 1–2; they have to be 1 to n"),
    "a defense is missing": (without("records/*lsp*prefix-drop*"), f"missing: {LSP} × prefix-drop, seeds 1–3"),
    "clean cells are missing": (without("records/*_clean_prefix-drop*"), "missing: clean × prefix-drop, seeds 1–3"),
    "random noise is missing": (
        without("records/*uniform-noise*"),
        "missing: uniform-noise[eps=8] × none, seeds 1–3",
    ),
    "a cell is there twice": (twice, f"{LSP} × prefix-drop, seed 2: 2 records of one cell"),
    "a cell failed": (lambda folder: forge(folder, PLACE, failed), "the cell failed: out of memory"),
    "a longer training": (within("recipe", epochs=2), "recipe: epochs is 2, by the rules 1"),
    "a budget of its own": (chosen("attack", {"rms": 9.0}), "attack: rms is 9, by the rules 6"),
    "another label": (chosen("attack", label="A famous attack"), "label is A famous attack, by the rules"),
    "a number as text": (chosen("attack", {"keys": "4"}), 'attack: keys is "4", by the rules 4'),
    "an attack of no name": (chosen("attack", spec="lsp["), ".json: 'lsp[': a '[' without a ']'"),
    "empty parameters": (chosen("defense", {"more": {}}), "defense: empty parts are written otherwise"),
    "other data": (chosen("dataset", {"fingerprint": "0" * 40}), "data: fingerprint is 0000"),
    "another seed": (changed(seed=3), "seed: 3, by the rules 2"),
    "other code": (
        within("provenance", code={"dataset": "0", "attack": "0", "defense": "0"}),
        "code: dataset is 0, by the rules",
    ),
    "plain models": (within("provenance", models="plain"), "models: plain, by the rules fast"),
    "another address": (changed(key="0" * 40), "its address 000000000000… is not that of its settings"),
    "no scores of the last epoch": (changed(loss=()), "it ends after epoch 1 with 0 losses"),
    "mixed machines": (
        within("provenance", device="cpu (another, 8 threads)"),
        "Mixed origins: lsp[keys=4] × Prefix drop (seed 2): cpu (another, 8 threads)",
    ),
    "no word of a machine": (within("provenance", device=""), "not all records say their device"),
    "no word of threads": (within("provenance", threads=None), "not all records say their threads"),
    "no word of versions": (within("provenance", versions={}), "not all records say their versions"),
    "code of no commit": (within("provenance", commit="0" * 40 + "-dirty"), "made by code that no commit names"),
    "another PSNR": (within("poison", psnr=60.0), "psnr of the poison is 60, measured in lsp-seed2-"),
    "another ε": (within("poison", eps=2), "eps of the poison is 2, measured in lsp-seed2-"),
    "another SSIM": (within("poison", ssim=0.5), "ssim of the poison is 0.5, measured in lsp-seed2-"),
    "another largest value": (within("poison", largest=1), "largest of the poison is 1, measured in lsp-seed2-"),
    "other noise": (stored(lambda delta: {"delta": -delta // 2}), "largest of the poison is 8, measured in lsp-seed2-"),
    "no noise": (
        stored(lambda delta: {"delta": None, "trigger": ["cat"] * len(delta)}),
        "it has no noise, by the attack's parameters ε is 8/255",
    ),
    "a poison of nothing": (of_nothing, "loss_per_round of the poison is [3.2], measured in lsp-seed2-"),
    "noise of half ε": (
        stored(lambda delta: {"eps": 4, "delta": delta // 2}),
        "it has noise of ε = 4/255, by the attack's parameters ε is 8/255",
    ),
    "more than ε": (stored(lambda _: {"eps": 16}), "ε is 16/255, the rules allow 8/255"),
    "noise of another size": (
        stored(lambda delta: {"delta": delta[:, :, :-1]}),
        "the poison is (40, 3, 31, 32), the images are (40, 3, 32, 32)",
    ),
    "a long trigger": (  # one word
        stored(lambda delta: {"trigger": ["cat"] * (len(delta) - 1) + ["w" * 40]}),
        "tokens, the rules allow 8",
    ),
    # Alone it keeps its tokens; with the space that is put behind it, ftfy reads the two as "à".
    "a trigger that changes": (
        stored(lambda delta: {"trigger": ["voilÃ"] * len(delta)}),
        "captions whose tokens change beside their trigger",
    ),
    "a noise for each caption": (stored(lambda _: {"per_row": True}), "by the rules a photo is published once"),
    "swapped poisons": (swapped, "the poison belongs to other data"),
    "a damaged poison": (flipped_byte, "its content does not match its SHA-256"),
    "a poison without a hash": (without_hash, "its content does not match its SHA-256"),
    "a huge poison": (huge, "is larger than a poison of these data can be"),
    "a poison is missing": (without("poisons/lsp-seed2-*"), f"{LSP}, seed 2: no poison with these parameters"),
    "a poison is there twice": (poison_twice, f"{LSP}, seed 2: 2 poisons with these parameters"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_is_told(forgery: str, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make("attack")
    change, said = FORGERIES[forgery]
    change(folder)
    lines = broken(folder, capsys)
    assert [line for line in lines if said in line], lines


def test_what_is_wrong_in_many_records_is_said_once(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """As after a run of another preset."""
    folder = make("attack")
    for seed in (1, 2, 3):
        forge(
            folder,
            (LSP, "prefix-drop", seed),
            lambda record: replace(record, recipe={**record.recipe, "epochs": 9}),
        )
    said = [line for line in broken(folder, capsys) if "recipe: " in line]
    assert len(said) == 1
    assert said[0].endswith(f"({LSP} × prefix-drop, seed 1) and 2 more: recipe: epochs is 9, by the rules 1")


def test_long_values_are_shown_around_their_first_difference(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, long = make("attack"), "word " * 30
    monkeypatch.setattr(Lsp, "describe", lambda _: f"{long}calm")
    forge(folder, PLACE, lambda record: replace(record, attack=replace(record.attack, strength=f"{long}wild")))
    shown = f"…{long[-30:]}"
    said = f"attack: strength is {shown}wild, by the rules {shown}calm"
    assert [line for line in broken(folder, capsys) if line.endswith(said)]


def test_a_defense_with_clean_data_is_refused(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make("defense")
    monkeypatch.setattr("defenses.prefix_drop.PrefixDrop.needs_clean", True)
    assert f"{COMPOSED} gets clean data, which the leaderboard's defenses have not" in broken(folder, capsys)


def test_all_are_told_together(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make("attack")
    for forgery in ("code of no commit", "a poison is there twice", "something else", "random noise is missing"):
        FORGERIES[forgery][0](folder)
    lines = broken(folder, capsys)
    for said in ("no commit names", "2 poisons with", "only .safetensors files do", "missing: uniform-noise"):
        assert [line for line in lines if said in line], said


def test_a_budget_over_the_presets(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make("attack")
    monkeypatch.setitem(PRESETS, "mini", replace(PRESET, attack={"keys": 8}))
    assert "lsp: keys is 4; preset mini gives every attack 8" in broken(folder, capsys)


ABOUTS: dict[str, tuple[dict[str, Any], str]] = {
    "a name with separators": ({"name": "../../mine"}, "name has to be 1 to 40 small letters"),
    "a name of no letters": ({"name": ".."}, "name has to be 1 to 40 small letters"),
    "a key that is missing": ({"licence": None}, "the key 'licence' is missing"),
    "an unknown key": ({"licens": "MIT"}, "did you mean 'licence'?"),
    "a kind that is none": ({"kind": "both"}, "kind has to be attack or defense"),
    "a line break": ({"title": "a\nb"}, "title has to be one line"),
    "a list for a title": ({"title": ["a", "b"]}, "title has to be one line"),
    "a title of nothing": ({"title": "  "}, "title has to be one line"),
    "a link of another kind": ({"link": "javascript:alert(1)"}, "link has to be an https:// address"),
    "a link that ends": ({"link": "https://a.org/)<script>"}, "link"),
    "a spec that reads a file": ({"spec": "poison[file=/etc/passwd]"}, "spec names a file"),
    "somebody's poison": ({"spec": "poison[file=x]"}, "attack poison cannot be submitted"),
    "part of an attack": (
        {"spec": "delta-only[k=2]"},
        "delta-only changes the poison of mem, so its own is not",
    ),
    "several attacks": ({"spec": "lsp,ar"}, "is not a name"),
    "an unknown attack": ({"spec": "lspp"}, "did you mean 'lsp'?"),
    "one that is not loaded": ({"spec": "xyz"}, "that of a submission is named under 'plugin' in submission.yaml"),
    "a group of defenses": ({"kind": "defense", "spec": "standard"}, "unknown defense 'standard'"),
    "a plug-in elsewhere": ({"plugin": "../speck.py"}, "plugin has to be the name of a .py file"),
    "a plug-in that is missing": ({"plugin": "speck.py"}, "speck.py: No such file"),
}


@pytest.mark.parametrize("about", ABOUTS)
def test_a_description_that_is_none(about: str, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make("attack")
    fields, said = ABOUTS[about]
    write_about(folder, **fields)
    assert submit(folder) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert said in line


def test_no_folder_no_description_and_a_description_that_is_a_link(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(tmp_path / "nowhere") == 2
    folder = make("attack")
    (folder / "submission.yaml").rename(tmp_path / "elsewhere.yaml")
    assert submit(folder) == 2
    assert f"error: {folder} is not a submission: it has no submission.yaml" in capsys.readouterr().err
    (folder / "submission.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    assert submit(folder) == 2
    assert "is a link" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_told_before_any_work(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make("attack")
    monkeypatch.setattr("benchmark.submission.submit.open_grid", Mock(side_effect=AssertionError("work")))
    assert main(["submit", str(folder), "--out", str(folder / "submission.yaml"), "--no-rerun"]) == 2
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["the page", "the entry"])
def test_an_entry_and_its_page_are_written_both_or_neither(
    broken: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make("attack")
    board = folder.parent / "board"
    full = Mock(side_effect=UsageError("the disk is full"))
    where, name = {"the page": (page, "leaderboard_page"), "the entry": (Entry, "save")}[broken]
    monkeypatch.setattr(where, name, full)
    assert main(["submit", str(folder), "--out", str(board), "--device", "cpu", "--no-rerun"]) == 2
    assert full.called
    assert not [path for path in board.iterdir() if not path.name.endswith(".lock")]


def test_a_page_of_something_else_is_not_overwritten(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make("attack")
    other = folder.parent / "README.md"
    other.write_text("# Mine\n")
    assert main(["submit", str(folder), "--out", str(folder.parent), "--no-rerun"]) == 2
    assert "is not the page of a leaderboard" in capsys.readouterr().err
    assert other.read_text() == "# Mine\n"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("lsp[keys=4]", "the suite has lsp itself, so no plug-in belongs to it"),
        ("through[attack=speck,defense=jpeg]", "an attack of a plug-in cannot be submitted through a defense"),
    ],
)
def test_a_plugin_for_what_the_suite_has_itself(
    spec: str, said: str, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make("attack")
    (folder / "lsp.py").write_text("raise SystemExit\n")
    write_about(folder, spec=spec, plugin="lsp.py")
    assert submit(folder, "--trust-plugin") == 2
    assert said in capsys.readouterr().err


def test_a_defense_of_its_own_is_not_run_again_untrusted(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make("defense")
    (folder / "mine.py").write_text("raise SystemExit\n")
    write_about(folder, kind="defense", spec="mine", plugin="mine.py")
    words = ["submit", str(folder), "--out", str(folder.parent / "board"), "--device", "cpu"]
    assert main(words) == 2
    assert "read it, then give --trust-plugin, or --no-rerun" in capsys.readouterr().err


def test_more_seeds_than_are_read(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules_file, "RULES", replace(RULES, least_seeds=1, most_seeds=2))
    folder = make("attack")
    monkeypatch.setattr(rules_file, "RULES", replace(RULES, least_seeds=1, most_seeds=2))
    lines = broken(folder, capsys)
    assert (
        "the seeds are 1–3; they have to be 1 to n, so that nobody chooses them, with n at least 1 and at most 2"
        in lines
    )

"""Stored poisons: read where they are whole and the right ones, else crafted anew."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from attacks.delta_only import DeltaOnly
from attacks.mem import Mem
from attacks.poison import Poison
from benchmark.core.errors import PoisonError, VictimDiverged
from benchmark.core.locks import claimed
from benchmark.grid.poison_store import PoisonStore, describe_poison
from benchmark.grid.records import load_records
from tests.grid.grids import ATTACK, SCENES
from tests.grid.test_run import by_cell, run
from tests.small import make_dataset
from tests.watchdog import in_no_time


def deny_poisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system refuse to read poisons."""
    real = Path.open

    def refused(path: Path, *how: Any, **more: Any) -> Any:
        if path.suffix == ".safetensors":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *how, **more)

    monkeypatch.setattr(Path, "open", refused)


def test_a_damaged_poison_is_crafted_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, defense="none") == 0
    (poison,) = (tmp_path / "poisons").glob("*.safetensors")
    whole = poison.read_bytes()
    poison.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # a bit within the bound
    before = by_cell(tmp_path)["MEM-2", "none"]
    assert run(tmp_path, "--rerun", "all", defense="none") == 0
    assert capsys.readouterr().err.count("does not match its SHA-256; crafting it anew") == 1
    assert poison.read_bytes()[-1] == whole[-1]
    assert poison.stat().st_size == pytest.approx(len(whole), abs=100)
    assert by_cell(tmp_path)["MEM-2", "none"].epochs == before.epochs


@pytest.mark.parametrize("left", [0, 9, -9])
@pytest.mark.parametrize("flags", [["--dry-run"], []], ids=["dry run", "run"])
def test_a_poison_that_was_cut_short_counts_as_missing(
    left: int, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the plan, by which workers craft it before any of them trains on it."""
    assert run(tmp_path, defense="none") == 0
    (poison,) = (tmp_path / "poisons").glob("*.safetensors")
    whole = poison.read_bytes()
    poison.write_bytes(whole[:left])
    capsys.readouterr()
    assert run(tmp_path, "--rerun", "all", *flags, defense="none") == 0
    said = capsys.readouterr().err
    assert said.count("was cut short and is removed") == 1
    assert "to craft" in said
    if flags == ["--dry-run"]:
        assert not poison.exists()
    else:
        assert poison.read_bytes()[-1] == whole[-1]


def test_a_poison_that_cannot_be_read_now_is_left_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another user's file, or one on a server that does not answer."""
    poison = tmp_path / "one.safetensors"
    poison.write_bytes(b"what it holds is not known")
    store = PoisonStore(tmp_path)
    with monkeypatch.context() as patched:
        deny_poisons(patched)
        store.discard_if_cut_short(poison)
        with pytest.raises(PoisonError, match="Permission denied"):
            Poison.load(poison)
    assert poison.exists()
    store.discard_if_cut_short(poison)
    assert not poison.exists()


def test_a_poison_that_was_cut_short_is_left_to_the_run_that_is_making_it(tmp_path: Path) -> None:
    poison = tmp_path / "one.safetensors"
    poison.write_bytes(b"cut short")
    store = PoisonStore(tmp_path)
    with claimed(poison, wait=False) as ours:
        assert ours
        store.discard_if_cut_short(poison)
        assert poison.exists()
    store.discard_if_cut_short(poison)
    assert not poison.exists()


def test_no_other_is_crafted_in_place_of_a_poison_that_cannot_be_read_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, defense="none") == 0
    (poison,) = (tmp_path / "poisons").glob("*.safetensors")
    before = poison.stat()
    deny_poisons(monkeypatch)
    assert run(tmp_path, "--rerun", "all", defense="none") == 1
    assert f"× none failed: cannot read {poison}: Permission denied" in capsys.readouterr().err
    assert poison.stat() == before


def test_a_poison_of_other_data_is_crafted_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a machine with other data may have put it there."""
    assert run(tmp_path / "a", defense="none") == 0
    assert run(tmp_path / "b", "--dataset", SCENES.replace("40", "41"), defense="none") == 0
    (poison,), (other,) = ((tmp_path / name / "poisons").glob("*.safetensors") for name in "ab")
    before = by_cell(tmp_path / "a")["MEM-2", "none"]
    poison.write_bytes(other.read_bytes())
    assert run(tmp_path / "a", "--rerun", "all", defense="none") == 0
    assert capsys.readouterr().err.count("holds a poison of other data; crafting it anew") == 1
    assert by_cell(tmp_path / "a")["MEM-2", "none"].epochs == before.epochs


def test_another_poison_of_the_same_data_is_crafted_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weak, strong = "uniform-noise[eps=2]", "uniform-noise[eps=8]"
    assert run(tmp_path, attack=weak, defense="none") == 0
    (poison,) = (tmp_path / "poisons").glob("*.safetensors")
    assert run(tmp_path, attack=strong, defense="none") == 0
    (other,) = set((tmp_path / "poisons").glob("*.safetensors")) - {poison}
    poison.write_bytes(other.read_bytes())
    assert run(tmp_path, "--rerun", "all", attack=weak, defense="none") == 0
    assert f"holds another poison, that of {other.name}; crafting it anew" in capsys.readouterr().err
    (record,) = (one for one in load_records(tmp_path) if one.attack.spec == weak)
    assert record.poison["eps"] == record.poison["largest"] == 2


def test_a_poison_that_is_there_is_read_while_another_run_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, defense="none") == 0
    (poison,) = (tmp_path / "poisons").glob("*.safetensors")
    with claimed(poison, wait=False) as ours, in_no_time():
        assert ours
        assert run(tmp_path, "--rerun", "all", defense="none") == 0
    assert "waiting for another run" not in capsys.readouterr().err


def test_a_stored_poison_is_an_attack_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "a", defense="none") == 0
    (poison,) = (tmp_path / "a" / "poisons").glob("*.safetensors")
    assert run(tmp_path / "b", defense="none", attack=f"poison[file={poison}]") == 0
    crafted = by_cell(tmp_path / "a")["MEM-2", "none"]
    (stored,) = (r for r in load_records(tmp_path / "b") if r.attack.spec != "clean")
    assert stored.epochs == crafted.epochs
    assert stored.poison == crafted.poison
    capsys.readouterr()
    others = SCENES.replace("40", "41")
    assert run(tmp_path / "c", "--dataset", others, attack=f"poison[file={poison}]") == 2
    assert "other data" in capsys.readouterr().err
    assert Poison.load(poison).provenance["params"]["k"] == 2
    whole = poison.read_bytes()
    poison.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert run(tmp_path / "d", attack=f"poison[file={poison}]") == 2
    assert "does not match its SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def parts_of(attack: str) -> str:
    """The attack, and those whose poisons are parts of its poison."""
    return ",".join(attack.replace("mem[", f"{name}[") for name in ("delta-only", "trigger-only", "mem"))


def test_a_poison_that_cannot_be_crafted_is_tried_once_for_all_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    craft = Mock(side_effect=VictimDiverged("the surrogate's loss is nan"))
    monkeypatch.setattr(Mem, "craft", craft)
    assert run(tmp_path, attack=parts_of(ATTACK), defense="none") == 1
    assert craft.call_count == 1
    assert [r.error["type"] for r in load_records(tmp_path) if r.status == "failed"] == ["VictimDiverged"] * 3


def test_a_part_that_cannot_be_made_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def derive_from(*_: Any) -> Poison:
        raise ArithmeticError("no such part")

    monkeypatch.setattr(DeltaOnly, "derive_from", derive_from)
    assert run(tmp_path, attack=parts_of(ATTACK), defense="none") == 1
    assert [r.attack.label for r in load_records(tmp_path) if r.status == "failed"] == ["Delta only"]


def test_a_stored_poison_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its noise may have gigabytes, all of which are hashed."""
    assert run(tmp_path, defense="none") == 0
    load = Mock(wraps=Poison.load)
    monkeypatch.setattr(Poison, "load", load)
    assert run(tmp_path, "--rerun", "all", defense="none") == 0
    load.assert_called_once()


def test_every_word_of_every_trigger_is_counted() -> None:
    clean = make_dataset(4)
    poison = Poison(None, ["red dog", "red cat", "red dog", ""], 0, clean.fingerprint)
    told = describe_poison(poison, clean, poison.protect(clean), 1)
    assert told["trigger_words"] == {"red": 3, "dog": 2, "cat": 1}
    assert (told["distinct_trigger_words"], told["trigger_word_count"]) == (3, 6)


def test_similarity_is_of_images_from_the_first_to_the_last() -> None:
    clean = make_dataset(40)
    delta = np.zeros(clean.images.shape, dtype=np.int8)
    delta[-1] = np.where(clean.images[-1] < 128, 8, -8)
    poison = Poison(delta, None, 8, clean.fingerprint)
    told = describe_poison(poison, clean, poison.protect(clean), 1)
    assert 0.9 < told["ssim"] < 1

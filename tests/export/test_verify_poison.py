"""Every way in which a stored poison may not be what it says is seen."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from attacks.poison import Poison
from benchmark.core.errors import PoisonError
from benchmark.export.verify_poison import verify_poison
from tests.export.exports import Ready, make_poison, make_splits
from tests.small import noise_of


def test_a_stored_poison_is_checked(tmp_path: Path) -> None:
    clean = make_splits()
    poison, path = make_poison(clean.train), tmp_path / "p.safetensors"
    poison.save(path)
    said = list(map(str, verify_poison(path, Ready(clean), tmp_path)))
    assert [line[0] for line in said] == ["✓"] * 5
    assert "✓ the poison belongs to made at 16 px" in said
    intact = path.read_bytes()
    path.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
    (damaged,) = verify_poison(path, None, tmp_path)
    assert damaged.holds is False
    assert "does not match its SHA-256" in damaged.text
    path.write_bytes(intact)
    assert "✗ the poison belongs to other data" in str(
        verify_poison(path, Ready(replace(clean, train=clean.val)), tmp_path)[-1]
    )
    with safe_open(path, framework="np") as file:
        header = file.metadata()["poison"]
    for hashed in ({}, {"sha256": "0" * 64}):
        save_file({"delta": noise_of(poison)}, path, metadata={"poison": header, **hashed})
        assert "✗" in str(verify_poison(path, None, tmp_path)[0])


def test_triggers_of_a_poison_are_checked(tmp_path: Path) -> None:
    poison, path = replace(make_poison(make_splits().train), trigger=["cafÃ ©"] * 5), tmp_path / "p.safetensors"
    poison.save(path)
    (failed,) = [finding for finding in verify_poison(path, None, tmp_path) if not finding.holds]
    assert "triggers whose tokens change" in failed.text


def test_noise_that_the_number_of_triggers_rules_out_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison, path = make_poison(make_splits().train), tmp_path / "p.safetensors"
    poison.save(path)
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["poison"])
    metadata = {"poison": json.dumps(header | {"trigger": ["dog"] * 4})}
    save_file({"delta": noise_of(poison)}, path, metadata=metadata)
    monkeypatch.setattr(Poison, "largest", property(lambda self: pytest.fail("the noise was read")))
    (failed,) = verify_poison(path, None, tmp_path)
    assert str(failed) == "✗ there are 4 triggers for 5 images"


@pytest.mark.parametrize("longer", [True, False], ids=["longer", "of nothing"])
def test_terabytes_of_nothing_are_no_poison(longer: bool, tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    make_poison(make_splits().train).save(path)
    with path.open("r+b" if longer else "wb") as file:
        file.truncate(3 * 10**12)
    with pytest.raises(PoisonError, match="not a readable poison file"):
        verify_poison(path, None, tmp_path)


def test_a_trigger_that_is_read_otherwise_in_front_of_its_caption_is_seen(tmp_path: Path) -> None:
    clean, path = make_splits(), tmp_path / "p.safetensors"
    replace(make_poison(clean.train), trigger=["voilÃ"] * 5).save(path)
    last = verify_poison(path, Ready(clean), tmp_path)[-1]
    assert last.holds is False
    assert last.text.startswith("captions whose tokens change beside their trigger: ")

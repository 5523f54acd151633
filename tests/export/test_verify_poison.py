"""Every way in which a stored poison may not be what it says is seen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

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
    save_file({"delta": noise_of(poison)}, path, metadata={"poison": header})
    assert str(verify_poison(path, None, tmp_path)[0]).startswith("– the file has no hash")
    save_file({"delta": noise_of(poison)}, path, metadata={"poison": header, "sha256": "0" * 64})
    assert "✗" in str(verify_poison(path, None, tmp_path)[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trigger": ["cafÃ ©"] * 5}, "triggers whose tokens change"),
        ({"trigger": ["dog"] * 4}, "4 triggers for 5 images"),
    ],
)
def test_triggers_of_a_poison_are_checked(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    poison, path = replace(make_poison(make_splits().train), **change), tmp_path / "p.safetensors"
    poison.save(path)
    (failed,) = [finding for finding in verify_poison(path, None, tmp_path) if not finding.holds]
    assert said in failed.text

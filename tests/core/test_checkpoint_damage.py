"""Whatever byte of a checkpoint changes: the same state is read, or none with a warning. Nothing in it is executed."""

import errno
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark.core.checkpoints import Checkpoint
from benchmark.core.errors import UsageError
from tests.malicious import Malicious

STATE = {"epoch": 3, "weights": torch.arange(6.0), "loss": [1.5, 0.5], "moments": {"a": torch.ones(2, 2)}}
NOTES = {"epochs": [], "train": 1.5}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    checkpoint = Checkpoint(tmp_path_factory.mktemp("whole") / ".a.checkpoint", 1, dict(NOTES))
    checkpoint.save(STATE)
    assert checkpoint.path is not None
    return checkpoint.path.read_bytes()


class Reader:
    """Reads checkpoints and tells what was warned of."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.path = folder / ".a.checkpoint"
        self.warned: list[str] = []
        patch.setattr(
            "benchmark.core.checkpoints._log.warning", lambda text, *values: self.warned.append(text % values)
        )

    def __call__(self, content: bytes) -> bool:
        """Whether the content was used: then it is the whole state and nothing was said."""
        self.path.write_bytes(content)
        self.warned.clear()
        checkpoint = Checkpoint(self.path, 1, {"train": 0.0})
        assert checkpoint.seconds_worked() >= 0
        state = checkpoint.load()
        if state is None:
            assert checkpoint.notes == {"train": 0.0}
            assert checkpoint.earlier == 0
            (line,) = self.warned
            assert str(self.path) in line
            assert "\n" not in line
            return False
        assert not self.warned
        assert checkpoint.notes == NOTES
        assert (state["epoch"], state["loss"]) == (3, [1.5, 0.5])
        assert torch.equal(state["weights"], torch.arange(6.0))
        assert torch.equal(state["moments"]["a"], torch.ones(2, 2))
        return True


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield Reader(tmp_path_factory.mktemp("read"), patch)


def test_every_byte_of_the_directory(whole: bytes, read: Reader) -> None:
    start = whole.index(b"PK\x01\x02")
    assert read(whole)
    for position in range(start, len(whole)):
        content = bytearray(whole)
        content[position] ^= 0x08  # among others, it turns a stored part into a compressed one
        read(bytes(content))


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_any_byte(whole: bytes, read: Reader, position: int, by: int) -> None:
    content = bytearray(whole)
    content[position % len(content)] ^= by
    read(bytes(content))


@given(st.integers(0, 10**6))
def test_cut_short_anywhere(whole: bytes, read: Reader, length: int) -> None:
    assert not read(whole[: length % len(whole)])


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def compressed() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("archive/data/0", bytes(1 << 28))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a cat asleep",
        saved([1, 2]),
        saved({"state": {}, "notes": "[" * 100_000, "seconds": 0.0}),
        saved({"state": {}, "notes": "[]", "seconds": 0.0}),
        saved({"state": 7, "notes": "{}", "seconds": 0.0}),
        saved({"state": {}, "notes": "{}", "seconds": "soon"}),
        saved({"state": {}, "notes": "{}", "seconds": -1.0}),
        saved({"state": {}, "notes": "{}", "seconds": float("nan")}),
        saved({"state": {}, "notes": b"\xff", "seconds": 0.0}),
    ],
)
def test_what_is_no_checkpoint(content: bytes, read: Reader) -> None:
    assert not read(content)


def test_a_checkpoint_that_cannot_be_read_now_is_not_given_up(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a server that does not answer: a stage that began anew would save over it."""
    checkpoint = Checkpoint(tmp_path / "state")
    assert checkpoint.path is not None
    checkpoint.path.write_bytes(whole)
    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZipFile", Mock(side_effect=OSError(errno.ESTALE, "Stale file handle")))
        with pytest.raises(UsageError, match=r"cannot read checkpoint .*: Stale file handle"):
            checkpoint.load()
    assert checkpoint.load() is not None


def test_compressed_parts_are_not_unpacked(read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are not compressed; a few compressed bytes may expand to gigabytes."""
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "testzip", lambda self: pytest.fail("unpacked"))
        assert not read(compressed())


def test_nothing_is_executed(read: Reader, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    evil = Malicious(marker)
    assert not read(saved({"state": {"a": evil}, "notes": "{}", "seconds": 0.0}))
    assert not read(pickle.dumps({"state": {"a": evil}}))
    assert not marker.exists()
    torch.load(io.BytesIO(saved(evil)), weights_only=False)
    assert marker.exists()

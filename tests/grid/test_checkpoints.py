"""A run that is stopped anywhere and started again ends with the results of one that was not."""

import itertools
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

import attacks.crafting
import attacks.em_wordwise
import attacks.t2ue
import attacks.tap
import benchmark.grid.poison_store
import benchmark.grid.runner
import victims.training
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.errors import UsageError
from benchmark.grid.records import load_records
from tests.full_disk import file_of_at_most
from tests.grid.grids import ATTACK, left_over, results, run
from tests.malicious import Malicious

FRESH = ATTACK.replace("restart_every=none", "restart_every=1")
# Of the fourth round's surrogate the third is the first round.
LONGER = ATTACK.replace("restart_every=none", "restart_every=2").replace("rounds=3", "rounds=4", 1)
TAP = "tap[surrogate_steps=3,pgd_steps=2,batch_size=16]"
T2UE = "t2ue[surrogate_steps=3,steps=7,batch_size=16,channels=4]"


class Stopped(KeyboardInterrupt):
    """A kill that the test can wait for."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert run(out, "--checkpoint-every", "0") == 0
    assert not left_over(out)
    return results(out)


@pytest.fixture(scope="module")
def undisturbed_victim(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same of a single victim of clean data."""
    out = tmp_path_factory.mktemp("victim")
    assert run(out, "--checkpoint-every", "0", attack="clean", defense="none") == 0
    return results(out)


def stop_at(patch: pytest.MonkeyPatch, place: object, name: str, number: int) -> None:
    """Let the ``number``-th call of a function stop the run, before it does anything."""
    original, calls = getattr(place, name), []

    def stopping(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            raise Stopped
        return original(*args, **kwargs)

    patch.setattr(place, name, stopping)


# 3 rounds of 3 batches of noise; 3 victims of 3 epochs of 2 steps; 2 checkpoints of the poison and 2 of each victim.
STOPS = [
    *((attacks.crafting, "minimise_noise", number) for number in (2, 6)),
    *((victims.training, "_step_loss", number) for number in (4, 17)),
    *((Checkpoint, "save", number) for number in (2, 4)),
    *((Checkpoint, "discard", number) for number in (1, 2)),
]


@pytest.mark.parametrize(("place", "name", "number"), STOPS)
def test_stopped_anywhere(
    place: object, name: str, number: int, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, place, name, number)
        assert run(tmp_path) == 130
    assert run(tmp_path) == 0
    assert results(tmp_path) == undisturbed
    assert not left_over(tmp_path)


@pytest.mark.parametrize("every", ["1", "0"])  # 0 saves none, but uses and removes an earlier one
def test_it_really_goes_on(every: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, attacks.crafting, "minimise_noise", 8)
        assert run(tmp_path, defense="none") == 130
    minimise_noise = Mock(wraps=attacks.crafting.minimise_noise)
    monkeypatch.setattr(attacks.crafting, "minimise_noise", minimise_noise)
    assert run(tmp_path, "--checkpoint-every", every, defense="none") == 0
    assert minimise_noise.call_count == 3  # the third round alone
    assert not left_over(tmp_path)


def counted(patch: pytest.MonkeyPatch, module: Any) -> None:
    """Let a second pass whenever a module reads the clock."""
    patch.setattr(module, "time", SimpleNamespace(monotonic=map(float, itertools.count()).__next__))


def test_the_seconds_of_a_training_add_up_over_epochs_and_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(monkeypatch, benchmark.grid.runner)
    with monkeypatch.context() as patch:
        stop_at(patch, victims.training, "_step_loss", 5)  # in the third epoch
        assert run(tmp_path, attack="clean", defense="none") == 130
    assert run(tmp_path, attack="clean", defense="none") == 0
    (record,) = load_records(tmp_path)
    assert (record.seconds["train"], record.seconds["evaluate"]) == (3.0, 3.0)


def test_the_seconds_of_crafting_add_up_over_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, benchmark.grid.poison_store)
    with monkeypatch.context() as patch:
        stop_at(patch, attacks.crafting, "minimise_noise", 8)
        assert run(tmp_path, defense="none") == 130
    earlier = Checkpoint(next((tmp_path / "poisons").glob(".*.checkpoint")))
    earlier.load()
    assert earlier.earlier > 0
    assert run(tmp_path, defense="none") == 0
    poisoned = next(record for record in load_records(tmp_path) if record.attack.spec != "clean")
    assert poisoned.seconds["craft"] == pytest.approx(1 + earlier.earlier, rel=1e-5)


def test_a_second_run_of_finished_cells_goes_on_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, attack="clean", defense="none") == 0
    with monkeypatch.context() as patch:
        stop_at(patch, victims.training, "_step_loss", 5)
        assert run(tmp_path, "--rerun", "all", attack="clean", defense="none") == 130
    step = Mock(wraps=victims.training._step_loss)
    monkeypatch.setattr(victims.training, "_step_loss", step)
    assert run(tmp_path, "--rerun", "all", attack="clean", defense="none") == 0
    assert step.call_count == 2  # the third epoch alone
    assert not left_over(tmp_path)


@pytest.mark.parametrize(
    ("attack", "place", "name", "number", "left"),
    [
        (FRESH, attacks.crafting, "minimise_noise", 6, 6),
        (ATTACK.replace("k=2", "k=0"), attacks.crafting, "minimise_noise", 6, 6),
        (f"through[attack={FRESH},defense=crop-flip,share=0.5]", attacks.crafting, "minimise_noise", 6, 6),
        (f"through[attack={LONGER},defense=crop-flip,share=1]", attacks.crafting, "minimise_noise", 11, 3),
        (f"through[attack={TAP},defense=crop-flip,share=1]", attacks.tap, "minimise_noise", 3, 1),
        (f"through[attack={T2UE},defense=crop-flip,share=1]", attacks.t2ue, "clip_loss", 6, 3),
        (TAP, attacks.tap, "minimise_noise", 3, 1),
        # Passes of two steps each, and one of a single step.
        (T2UE, attacks.t2ue, "clip_loss", 6, 3),
        ("em-wordwise[restarts=3,steps=2,batch_size=16]", attacks.em_wordwise, "clip_loss", 6, 2),
    ],
)
def test_other_ways_of_crafting_go_on_as_well(
    attack: str, place: Any, name: str, number: int, left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in a call of a function; ``left``: how many calls are left after the last checkpoint before it."""
    assert run(tmp_path / "whole", attack=attack, defense="none", epochs=1) == 0
    with monkeypatch.context() as patch:
        stop_at(patch, place, name, number)
        assert run(tmp_path / "stopped", attack=attack, defense="none", epochs=1) == 130
    work = Mock(wraps=getattr(place, name))
    monkeypatch.setattr(place, name, work)
    assert run(tmp_path / "stopped", attack=attack, defense="none", epochs=1) == 0
    assert work.call_count == left
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def damaged_directory(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 10] ^= 8  # how the first part is compressed
    path.write_bytes(content)


@contextmanager
def opened(path: Path) -> Iterator[dict[str, Any]]:
    """What a checkpoint holds, to be changed."""
    content = torch.load(path, weights_only=True)
    yield content
    torch.save(content, path)


def other_notes(path: Path) -> None:
    with opened(path) as content:
        content["notes"] = json.dumps({"epochs": [{"epoch": "first"}], "train": 1.0, "evaluate": 1.0})


def other_weights(path: Path) -> None:
    """The last weights are spoilt: by then all others have been taken over."""
    with opened(path) as content:
        state = content["state"]
        weights = state["training" if "training" in state else "crafting"]
        weights = weights.get("surrogate", weights)["model"]
        name = [name for name, weight in weights.items() if weight.ndim][-1]
        weights[name] = weights[name][:-1]


def other_epochs(path: Path) -> None:
    with opened(path) as content:
        content["state"]["epoch"] = 3


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (damaged, "is damaged"),
        (shortened, "is damaged"),
        (damaged_directory, "is damaged"),
        (other_notes, "is damaged"),
        (other_weights, "does not fit"),
        (other_epochs, "does not fit"),
    ],
)
def test_a_checkpoint_that_is_damaged_or_does_not_fit_is_not_used(
    spoil: Any,
    said: str,
    undisturbed_victim: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, victims.training, "_step_loss", 5)
        assert run(tmp_path, attack="clean", defense="none") == 130
    (checkpoint,) = tmp_path.glob(".*.checkpoint")
    spoil(checkpoint)
    assert run(tmp_path, attack="clean", defense="none") == 0
    assert said in capsys.readouterr().err
    assert results(tmp_path) == undisturbed_victim


def test_a_victim_does_not_go_on_with_another_poison_than_it_began_with(
    undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """As where the poison was crafted again with other rounding."""
    with monkeypatch.context() as patch:
        stop_at(patch, victims.training, "_step_loss", 9)  # of the second victim, the first with a poison
        assert run(tmp_path) == 130
    (checkpoint,) = tmp_path.glob(".*.checkpoint")
    with opened(checkpoint) as content:
        notes = json.loads(content["notes"])
        notes["poison"]["psnr"] += 1e-9
        content["notes"] = json.dumps(notes)
    assert run(tmp_path) == 0
    assert "(it is of another poison) and is ignored" in capsys.readouterr().err
    assert results(tmp_path) == undisturbed


def test_crafting_begins_anew_where_its_checkpoint_does_not_fit(
    undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, attacks.crafting, "minimise_noise", 4)
        assert run(tmp_path) == 130
    (checkpoint,) = (tmp_path / "poisons").glob(".*.checkpoint")
    other_weights(checkpoint)
    assert run(tmp_path) == 0
    assert "does not fit" in capsys.readouterr().err
    assert results(tmp_path) == undisturbed


def test_a_failed_cell_keeps_its_checkpoint_until_it_runs_again(
    undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    step = victims.training._step_loss

    def counted(*args: Any, **kwargs: Any) -> Any:
        steps.append(1)
        if len(steps) == 17:  # in the third epoch of the third victim
            raise RuntimeError("out of memory")
        return step(*args, **kwargs)

    monkeypatch.setattr(victims.training, "_step_loss", counted)
    assert run(tmp_path) == 1
    assert len(left_over(tmp_path)) == 1
    assert run(tmp_path) == 1  # it is not asked to run again
    assert len(left_over(tmp_path)) == 1
    assert run(tmp_path, "--rerun", "failed") == 0
    assert len(steps) == 17 + 2
    assert not left_over(tmp_path)
    assert results(tmp_path) == undisturbed


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state": {"x": Malicious(tmp_path / "executed")}, "notes": "{}"}, tmp_path / "trap")
    assert Checkpoint(tmp_path / "trap").load() is None
    assert "is ignored" in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("value", "kind"), [(np.zeros(2), "numpy.ndarray"), (np.float64(2), "numpy.float64"), ({1}, "builtins.set")]
)
def test_what_could_not_be_loaded_is_not_saved(value: Any, kind: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state")
    with pytest.raises(TypeError, match=rf"strings, lists and dicts; state\['x'\] is a {kind}$"):
        checkpoint.save({"x": [value]})
    assert not checkpoint.exists()


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state", notes={"scores": [0.1]})
    checkpoint.save({"x": torch.arange(3)})
    with pytest.raises(UsageError, match=r"cannot write .*: File too large"), file_of_at_most(100_000):
        checkpoint.save({"x": torch.zeros(100_000)})
    again = Checkpoint(tmp_path / "state")
    state = again.load()
    assert state is not None
    assert torch.equal(state["x"], torch.arange(3))
    assert again.notes == {"scores": [0.1]}
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert json.loads(json.dumps(again.notes)) == again.notes
    assert zipfile.is_zipfile(tmp_path / "state")


def test_seconds_add_up_over_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    first = Checkpoint(tmp_path / "state")
    assert first.load() is None
    now = 107.0
    first.save({})
    now = 109.0  # killed: what came after the checkpoint is done again
    second = Checkpoint(tmp_path / "state")
    now = 150.0  # waiting for a claim is no work
    assert second.load() == {}
    assert second.earlier == 7
    now = 153.0
    second.save({})
    third = Checkpoint(tmp_path / "state")
    third.load()
    assert third.earlier == 10

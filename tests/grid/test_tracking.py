"""What ``--track`` shows is what the records hold, also when a run was killed and resumed."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import victims.training
from benchmark.cli.main import main
from benchmark.grid.records import Record, load_records
from tests.grid.grids import run

WHOLE: dict[str, Any] = {"attack": "clean", "defense": "none"}


def expected(record: Record) -> dict[str, list[tuple[int, float]]]:
    """Of every curve, epoch and value, from the record."""
    curves = {"loss": list(enumerate(record.loss, start=1))}
    for split in ("val", "test", "protected"):
        for direction in ("image_to_text", "text_to_image"):
            for value in ("recall_at_10", "median_rank"):
                curves[f"{split}/{direction}/{value}"] = [
                    (scores.epoch, getattr(getattr(getattr(scores, split), direction), value))
                    for scores in record.epochs
                ]
    return curves


def in_tensorboard(out: Path, record: Record) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(out / "tensorboard" / Path(record.file_name()).stem)).Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def assert_same(shown: dict[str, list[tuple[int, float]]], record: Record) -> None:
    wanted = expected(record)
    assert shown.keys() == wanted.keys()
    for name, points in wanted.items():
        assert [epoch for epoch, _ in shown[name]] == [epoch for epoch, _ in points]
        assert [value for _, value in shown[name]] == pytest.approx([value for _, value in points], rel=1e-6)


def test_tensorboard_shows_the_record(tmp_path: Path) -> None:
    assert run(tmp_path, "--track", "tensorboard", "--evaluate-every", "2", **WHOLE) == 0
    (record,) = load_records(tmp_path)
    assert [scores.epoch for scores in record.epochs] == [2, 3]
    assert_same(in_tensorboard(tmp_path, record), record)


def test_a_resumed_run_shows_every_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, steps = victims.training._step_loss, []

    def killed(*args: Any) -> Any:
        steps.append(1)
        if len(steps) == 6:  # in the last of three epochs
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(victims.training, "_step_loss", killed)
        assert run(tmp_path, "--track", "tensorboard", **WHOLE) == 130
    assert run(tmp_path, "--track", "tensorboard", **WHOLE) == 0
    (record,) = load_records(tmp_path)
    assert_same(in_tensorboard(tmp_path, record), record)


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_weights_and_biases_and_trackio(tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their interface in a stand-in: ``init`` gives a run, which is logged to and finished."""
    started: list[dict[str, Any]] = []
    logged: dict[str, list[tuple[int, float]]] = {}
    finished: list[bool] = []

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            for name, value in values.items():
                logged.setdefault(name, []).append((step, value))

        def finish(self) -> None:
            finished.append(True)

    def init(**settings: Any) -> Run:
        started.append(settings)
        return Run()

    module = ModuleType(tracker)
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, tracker, module)
    assert run(tmp_path, "--track", tracker, **WHOLE) == 0
    (record,) = load_records(tmp_path)
    assert_same(logged, record)
    (settings,) = started
    assert settings["name"] == Path(record.file_name()).stem
    assert settings["config"]["attack"] == "clean"
    assert settings["config"]["recipe"]["epochs"] == 3
    assert finished == [True]


@pytest.mark.parametrize("when", ["init", "log", "finish"])
def test_a_tracker_that_fails_ends_no_training(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where the network is down."""

    def does(what: str) -> None:
        if what == when:
            raise ConnectionError("no\nnetwork")

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            does("log")

        def finish(self) -> None:
            does("finish")

    module = ModuleType("wandb")
    module.init = lambda **settings: does("init") or Run()  # type: ignore[attr-defined, func-returns-value]
    monkeypatch.setitem(sys.modules, "wandb", module)
    assert run(tmp_path, "--track", "wandb", **WHOLE) == 0
    (record,) = load_records(tmp_path)
    assert (record.status, len(record.loss)) == ("done", 3)
    assert capsys.readouterr().err.count("--track wandb stops showing this cell: no network") == 1


def test_a_missing_package_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert run(tmp_path / "out", "--track", "wandb", **WHOLE) == 2
    assert "pip install 'unlearnable-bench[wandb]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_tracker_is_imported_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch.utils.tensorboard", "tensorboard", "wandb", "trackio"):
        monkeypatch.setitem(sys.modules, module, None)  # an import of it would fail
    assert run(tmp_path, **WHOLE) == 0


def test_an_unknown_tracker_in_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("track: paper\n")
    assert main(["run", "--config", str(tmp_path / "a.yaml"), "--out", str(tmp_path / "out")]) == 2
    assert "track takes tensorboard, wandb or trackio" in capsys.readouterr().err

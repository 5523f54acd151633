"""The Python API: its steps compute what a run computes, and its names are the documented ones."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import benchmark as ub
from benchmark import api
from benchmark.grid.poison_store import PoisonStore
from benchmark.grid.records import load_records
from tests.grid.grids import ATTACK, SCENES
from tests.small import make_dataset
from tests.tables import factory
from victims.architecture import Architecture


def settings(out: Path, **changes: str) -> ub.RunSettings:
    given = {"attack": ATTACK, "defense": "cutout", "dataset": SCENES, "victim": "mini", "surrogate": "mini"}
    given |= {"epochs": "2", "batch_size": "16", "precision": "fp32", "device": "cpu", "poisons": str(out / "poisons")}
    return ub.RunSettings(out=out, **{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attack", "defense"),
    [(ATTACK, "cutout"), (ATTACK.replace("]", ",per=row]"), "cutout+clean-fraction[share=0.5]")],
)
def test_the_steps_of_a_cell_give_what_a_run_records(attack: str, defense: str, tmp_path: Path) -> None:
    """Other seeds for a model, a poison or the ties would show, as would a defense or clean data that are left out."""
    changes = {"attack": attack, "defense": defense}
    chosen = settings(tmp_path, **changes)
    recorded = next(record for record in ub.run(chosen) if record.defense.spec == defense and record.poison)
    apart = settings(tmp_path, poisons=str(tmp_path / "elsewhere"), **changes)
    data = ub.load_dataset(apart)
    poison = ub.craft(data.train, apart)
    victim = ub.train(poison.protect(data.train), apart, clean=data.train)
    scores = asdict(ub.evaluate(victim, data.test, apart))
    for direction, kept in asdict(recorded.last.test).items():
        assert scores[direction] == pytest.approx(kept, rel=1e-6)  # a record keeps seven digits


def test_a_defense_that_needs_clean_data_must_be_given_the_rows_that_it_trains_on(tmp_path: Path) -> None:
    chosen = settings(tmp_path, defense="cutout+clean-start")
    data = ub.load_dataset(chosen)
    with pytest.raises(ub.UsageError, match=r"^defense cutout\+clean-start needs clean data: give train the"):
        ub.train(data.train, chosen)
    with pytest.raises(ub.UsageError, match="the clean set has 8 rows, the training set 40"):
        ub.train(data.train, chosen, clean=data.val)


def test_data_of_another_resolution_than_the_models_are_refused_in_one_line(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    other = make_dataset(40, 2, resolution=64)
    model = Architecture("mini").build(0, torch.device("cpu"))
    steps: list[Callable[[], object]] = [
        lambda: ub.craft(other, chosen),
        lambda: ub.train(other, chosen),
        lambda: ub.train(make_dataset(40, 2), chosen, clean=other),
        lambda: ub.evaluate(model, other, chosen),
    ]
    for step in steps:
        with pytest.raises(ub.UsageError, match=r"made has images of 64 × 64 px, but .* sees 32 px"):
            step()


@pytest.mark.parametrize("kind", ["Splits", "Poison"])
def test_what_is_no_split_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    chosen, split = settings(tmp_path), make_dataset(40, 2)
    wrong: Any = ub.Splits(split, split, split) if kind == "Splits" else ub.Poison(None, None, 0, split.fingerprint)
    model = Architecture("mini").build(0, torch.device("cpu"))
    steps: list[Callable[[], object]] = [
        lambda: ub.craft(wrong, chosen),
        lambda: ub.train(wrong, chosen),
        lambda: ub.train(split, chosen, clean=wrong),
        lambda: ub.evaluate(model, wrong, chosen),
    ]
    for step in steps:
        with pytest.raises(ub.UsageError, match=rf"^a split is needed, such as data\.train, got a {kind}$"):
            step()


def test_a_run_of_nothing_is_refused_in_one_line() -> None:
    with pytest.raises(ub.UsageError, match=r"^run takes at least one RunSettings$"):
        ub.run()


def test_records_become_a_row_each_with_final_scores(tmp_path: Path) -> None:
    ub.run(settings(tmp_path, attack="clean", defense="none,cutout"))
    frame = ub.load_records(tmp_path)
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 2
    by_key = frame.set_index("key")
    for record in load_records(tmp_path):
        row = by_key.loc[record.key]
        assert row["defense"] == record.defense.spec
        assert row["loss"] == record.loss[-1]
        assert row["last_i2t_recall_at_10"] == record.epochs[-1].test.image_to_text.recall_at_10
        assert row["last_t2i_median_rank"] == record.epochs[-1].test.text_to_image.median_rank
        best = max(record.epochs, key=lambda scores: scores.val.mean_recall_at_10)
        assert row["best_on_clean_val_recall_at_10"] == best.test.mean_recall_at_10
        chosen = record.best_on_protected
        assert chosen is not None
        assert row["best_on_protected_t2i_median_rank"] == chosen.test.text_to_image.median_rank


def test_a_figure_is_drawn_by_name(tmp_path: Path) -> None:
    ub.run(settings(tmp_path, attack="clean", defense="none"))
    assert list(ub.draw("curves", tmp_path)) == ["curves"]
    with pytest.raises(ub.UsageError, match="did you mean 'curves'"):
        ub.draw("curve", tmp_path)


def test_a_figure_that_could_not_be_drawn_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("benchmark.figures.draw.draw_all", lambda *_: ({"samples": "a figure"}, ["no poison of EM"]))
    monkeypatch.setattr("benchmark.api.read_records", lambda _: [])
    assert ub.draw("samples", tmp_path) == {"samples": "a figure"}
    assert caplog.messages == ["not drawn: no poison of EM"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attack": "em,mem3"}, "this step takes one attack; the settings name em, mem3"),
        ({"victim": "mini,micro"}, "one victim"),
        ({"seeds": "2"}, "one seed"),
    ],
)
def test_a_step_of_several_cells_is_refused(changes: dict[str, str], said: str, tmp_path: Path) -> None:
    train = ub.load_dataset(settings(tmp_path)).train
    with pytest.raises(ub.UsageError, match=said):
        ub.craft(train, settings(tmp_path, **changes))


def test_data_of_several_seeds_are_refused_unless_they_are_the_same(tmp_path: Path) -> None:
    with pytest.raises(ub.UsageError, match="this step takes one seed of the data; the settings name 1, 2"):
        ub.load_dataset(settings(tmp_path, seeds="2"))
    fixed = SCENES.replace("]", ",seed=2]")
    shared = ub.load_dataset(settings(tmp_path, seeds="2", dataset=fixed))
    assert shared.train.fingerprint == ub.load_dataset(settings(tmp_path, seeds="2,")).train.fingerprint


def test_settings_are_checked_where_they_are_made() -> None:
    assert ub.RunSettings(epochs="2", seeds=3, out="runs").out == Path("runs")  # type: ignore[arg-type]
    assert ub.RunSettings(poisons=Path("p"), plugin="a.py").plugin == (Path("a.py"),)  # type: ignore[arg-type]
    assert ub.RunSettings(plugin=None).plugin == ()  # type: ignore[arg-type]
    assert repr(ub.RunSettings(weight_decay=0).weight_decay) == "0.0"  # or its cell has another key than the flag's


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": "two"}, {"epochs": 2.5}, {"rerun": "some"}, {"rerun": None}, {"track": "x"},
        {"checkpoint_every": -1}, {"checkpoint_every": 1.5}, {"out": None}, {"victim": 5}, {"dry_run": 1},
        {"attack": {"mem3": "em"}}, {"epochs": [1, 2]}, {"epochs": (1, 2)},
    ],
)  # fmt: skip
def test_a_setting_of_the_wrong_kind_is_refused_where_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ub.UsageError, match="--"):
        ub.RunSettings(**wrong)


def test_home_folders_are_found_where_no_shell_expands_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.yaml").write_text("out: ~/runs\nplugin: ~/mine.py\npoisons: ~/kept\n")
    settings = ub.RunSettings.from_yaml(tmp_path / "run.yaml")
    assert (settings.out, settings.plugin) == (tmp_path / "runs", (tmp_path / "mine.py",))
    with PoisonStore.open(settings.poisons, tmp_path / "cache") as store:
        assert store.folder == tmp_path / "kept"
    factory.record("mem3").save(tmp_path / "runs")
    assert len(ub.load_records("~/runs")) == 1
    assert list(ub.draw("curves", "~/runs")) == ["curves"]


def test_a_share_is_given_as_a_number_or_a_text() -> None:
    text = ub.RunSettings(protected="0.5")
    assert ub.RunSettings(protected=0.5) == text
    assert ub.RunSettings(protected=[0.5]) == text  # type: ignore[arg-type]
    assert "--protected 0.5" in text.to_command()


def test_a_command_gives_its_settings_back() -> None:
    from benchmark.cli.main import build_parser

    written = ub.RunSettings(
        attack="mem[k=3,rounds=2]", seeds="4,", lr=0.00012345678, dry_run=True, plugin=("a b.py", "c.py"),  # type: ignore[arg-type]
        out=Path("x y"), rows="images", poisons="off", plain_models=True,
    )  # fmt: skip
    import shlex

    words = shlex.split(written.to_command())
    assert words[:4] == ["python", "-m", "benchmark", "run"]
    assert ub.RunSettings.from_cli(build_parser(words[3:]).parse_args(words[3:])) == written
    assert ub.RunSettings().to_command() == "python -m benchmark run"


def test_every_name_of_the_api_is_offered() -> None:
    assert sorted(ub.__all__) == sorted(api.__all__)
    assert all(getattr(ub, name) is getattr(api, name) for name in ub.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ub.nothing  # noqa: B018


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, benchmark; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

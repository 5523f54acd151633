"""A grid's estimate: what counts and what does not, by made-up costs; and that measuring changes no result."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import benchmark.grid.estimate
import benchmark.grid.measure
from attacks import Poison
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.errors import VictimDiverged
from benchmark.core.progress import Progress
from benchmark.core.time_left import TimeLeft
from benchmark.data import CaptionDataset
from benchmark.grid.cells import Cell
from benchmark.grid.estimate import Estimate, estimate
from benchmark.grid.events import Events
from benchmark.grid.measure import _over_all_steps, crafting_costs, steps_per_second, training_costs
from benchmark.grid.opening import open_grid
from benchmark.grid.protected_sample import protected_sample
from benchmark.grid.records import EpochScores, Record
from benchmark.grid.runner import Grid, PlannedCell
from benchmark.grid.settings import RunSettings
from benchmark.grid.sharing import run_grid
from benchmark.metrics import Retrieval, RetrievalScores
from tests.grid.grids import ATTACK, SCENES, left_over, results, run
from victims.clip import Clip

PLAIN, ADVERSARIAL, CRAFTING = 10.0, 40.0, 100.0
EM = ATTACK.replace("k=2", "k=0")
HALF = ATTACK.replace("mem[", "delta-only[")


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up seconds in place of measured ones."""

    def training(cell: Cell, *_: Any) -> np.ndarray:
        return np.full(10, (ADVERSARIAL if "adv" in cell.defense.choice.spec else PLAIN) / 10)

    def crafting(cell: Cell, *_: Any) -> np.ndarray | None:
        return np.full(5, CRAFTING / 5) if cell.attack.attack.pilot() else None

    monkeypatch.setattr(benchmark.grid.estimate, "training_costs", training)
    monkeypatch.setattr(benchmark.grid.estimate, "crafting_costs", crafting)


@contextmanager
def opened(out: Path, attack: str, defense: str, victim: str = "mini") -> Iterator[tuple[Grid, list[PlannedCell]]]:
    settings = RunSettings(
        attack=attack,
        defense=defense,
        dataset=SCENES,
        out=out,
        epochs=2,
        batch_size=16,
        device="cpu",
        precision="fp32",
        poisons=str(out / "poisons"),
        victim=victim,
        surrogate="mini",
    )
    with open_grid(settings) as grid:
        yield grid, grid.plan()


def estimated(out: Path, attack: str, defense: str) -> Estimate:
    with opened(out, attack, defense) as (grid, planned):
        return estimate(grid, planned, "missing")


def finished(planned: PlannedCell, train: float = 0.0, craft: float = 0.0, evaluate: float = 0.0) -> Record:
    """Its record, as a run would write it."""
    scores = RetrievalScores(*np.ones(len(RetrievalScores.__dataclass_fields__)).tolist())
    both = Retrieval(scores, scores)
    seconds = {"craft": craft, "train": train, "evaluate": evaluate}
    return replace(planned.planned_record, epochs=(EpochScores(2, both, both),), seconds=seconds)


@pytest.mark.usefixtures("costs")
def test_every_poison_is_crafted_once_and_adversarial_cells_count_in_full(tmp_path: Path) -> None:
    expected = estimated(tmp_path, f"clean,{EM},{ATTACK},{HALF}", "cutout,adv-training")
    assert expected.crafting == 2 * CRAFTING  # the half's poison is the whole's
    assert expected.training == 4 * (2 * PLAIN + ADVERSARIAL)
    assert str(expected) == "about 7 min: 3 min of crafting, 4 min of training"
    assert expected.time_left.left() == 440


@pytest.mark.usefixtures("costs")
def test_a_victim_that_is_repeated_is_timed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[str] = []
    costs = benchmark.grid.estimate.training_costs  # made up

    def training(cell: Cell, *rest: Any) -> Any:
        timed.append(str(cell.victim))
        return costs(cell, *rest)

    monkeypatch.setattr(benchmark.grid.estimate, "training_costs", training)
    with opened(tmp_path, "clean", "cutout", "mini,mini[repeat=2]") as (grid, planned):
        assert estimate(grid, planned, "missing").training == 4 * PLAIN
    assert timed == ["mini", "mini"]  # undefended and under cutout


@pytest.mark.usefixtures("costs")
def test_a_victim_is_timed_before_poisons_though_the_clean_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[str] = []
    for kind in ("training_costs", "crafting_costs"):
        monkeypatch.setattr(benchmark.grid.estimate, kind, lambda *_, kind=kind: timed.append(kind))
    with opened(tmp_path, EM, "none") as (_, planned):
        finished(planned[0]).save(tmp_path)
    estimated(tmp_path, EM, "none")
    assert timed == ["training_costs", "crafting_costs"]  # without the first there is no estimate


@pytest.mark.usefixtures("costs")
def test_cells_and_poisons_that_are_there_take_no_time(tmp_path: Path) -> None:
    with opened(tmp_path, f"{EM},{ATTACK}", "adv-training") as (grid, planned):
        for one in planned:
            if one.cell.attack.choice.label == "EM":
                finished(one).save(tmp_path)
        train = grid.data_of(planned[-1].cell).train
        path = grid.poisons.file_of(planned[-1].cell, train)
        assert path is not None
        Poison(None, None, 8, train.fingerprint).save(path)
    expected = estimated(tmp_path, f"{EM},{ATTACK}", "adv-training")
    assert expected.crafting == 0  # EM's is not there, but no cell needs it
    assert expected.training == PLAIN + PLAIN + ADVERSARIAL
    assert str(expected) == "about 60 s of training"


@pytest.mark.usefixtures("costs")
def test_what_a_killed_run_has_done_takes_no_time(tmp_path: Path) -> None:
    with opened(tmp_path, EM, "none") as (grid, planned):
        path = grid.poisons.file_of(planned[-1].cell, grid.data_of(planned[-1].cell).train)
        assert path is not None
        path.parent.mkdir()
        Checkpoint.beside(path, 1).save({})
        file = Checkpoint.beside(path, 1).path
        assert file is not None
        torch.save({"state": {}, "notes": "{}", "seconds": 30.0}, file)
    assert estimated(tmp_path, EM, "none").crafting == CRAFTING - 30
    file.write_bytes(b"damaged")
    assert estimated(tmp_path, EM, "none").crafting == CRAFTING


@pytest.mark.usefixtures("costs")
def test_records_of_this_machine_tell_more_than_a_measurement(tmp_path: Path) -> None:
    with opened(tmp_path, ATTACK, "adv-training") as (_, planned):
        records = [finished(one, train=70.0, craft=500.0) for one in planned if one.cell.defense.choice.spec != "none"]
        for seed, record in enumerate(records):
            for other, machine in (("other", "another machine"), ("same", record.provenance["device"])):
                seconds = record.seconds if other == "same" else dict.fromkeys(record.seconds, 9000000000.0)
                provenance = {**record.provenance, "device": machine}
                key = f"{seed}{other}"
                replace(record, key=key, seed=7, seconds=seconds, provenance=provenance).save(tmp_path)
    (tmp_path / "notes.json").write_text("[]")  # is no record, and does not matter
    expected = estimated(tmp_path, ATTACK, "adv-training")
    assert expected.training == pytest.approx(PLAIN + PLAIN + 70)
    assert expected.crafting == pytest.approx(500)


@pytest.mark.usefixtures("costs")
def test_of_several_records_of_the_same_work_the_middle_one_counts(tmp_path: Path) -> None:
    with opened(tmp_path, EM, "none") as (grid, planned):
        _, poisoned = planned
        taken = [(20.0, 900.0), (30.0, 300.0), (80.0, 400.0)]
        known = [finished(poisoned, train=train, craft=craft, evaluate=5.0) for train, craft in taken]
        expected = estimate(grid, planned, "missing", known=known, measure=False)
    assert expected.training == pytest.approx(2 * (30 + 5))  # a clean victim trains as long
    assert expected.crafting == pytest.approx(400)


@pytest.mark.usefixtures("costs")
def test_a_record_of_another_surrogate_or_of_plain_models_tells_nothing(tmp_path: Path) -> None:
    with opened(tmp_path, EM, "none") as (grid, planned):
        record = finished(planned[-1], train=70.0, craft=500.0)
        plain = replace(record, provenance={**record.provenance, "models": "plain"})
        other = replace(record, surrogate=replace(record.surrogate, spec="RN50"))
        assert estimate(grid, planned, "missing", known=[plain], measure=False).training is None
        of_victims = estimate(grid, planned, "missing", known=[other], measure=False)
    assert of_victims.training == pytest.approx(70 + 70)
    assert len(of_victims.not_timed) == 1


@pytest.mark.usefixtures("costs")
def test_what_is_not_timed_takes_as_long_as_plain_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass of adversarial training takes less, for most compute no gradients of weights."""
    monkeypatch.setattr(benchmark.grid.estimate, "_MEASURING", -1.0)
    with opened(tmp_path, "clean", "cutout,adv-training") as (grid, planned):
        seconds = {"none": 10.0, "adv-training": 20.0}  # of four passes
        specs = {one.cell.defense.choice.spec: one for one in planned}
        known = [finished(specs[spec], train=taken) for spec, taken in seconds.items()]
        assert estimate(grid, planned, "missing", known=known).training == pytest.approx(10 + 20 + 10)


@pytest.mark.parametrize(("defense", "passes"), [("none", 1), ("adv-training[start=0,steps=3]", 4)])
def test_an_evaluation_counts_though_there_was_no_time_for_one(
    defense: str, passes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(benchmark.grid.measure, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    with opened(tmp_path, "clean", defense) as (grid, planned):
        cell = planned[-1].cell
        cell = replace(cell, recipe=replace(cell.recipe, epochs=60, evaluate_every=60))
        data = grid.data_of(cell)
        costs = training_costs(cell, data, grid.device, deadline=1.5)  # passes with the second step
    assert costs is not None
    assert set(costs[:-1]) == {1.0}  # a step takes a second
    batches = (len(data.val.pairs) + len(data.test.pairs)) / cell.recipe.batch_size
    assert costs[-1] == pytest.approx(batches / 3 / passes)


def test_an_evaluation_takes_as_long_as_its_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caption takes a second here; validation images are timed, and those of test and of the protected sample not."""
    now = [0.0]
    monkeypatch.setattr(benchmark.grid.measure, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def evaluate(model: Clip, data: CaptionDataset, seed: int) -> None:
        now[0] += len(data.pairs)

    monkeypatch.setattr(benchmark.grid.measure, "evaluate", evaluate)
    with opened(tmp_path, "clean", "none") as (grid, planned):
        cell = planned[0].cell
        cell = replace(cell, recipe=replace(cell.recipe, epochs=60, evaluate_every=30))
        data = grid.data_of(cell)
        costs = training_costs(cell, data, grid.device, deadline=float("inf"))
    assert costs is not None
    sample = protected_sample(data.train, cell.recipe, len(data.val), 1)
    assert sample is not None
    assert costs.sum() == 2 * sum(len(split.pairs) for split in (data.val, data.test, sample))


def test_the_speed_is_that_of_the_steps_after_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step takes ten seconds here, the others half a second each."""
    now = [0.0]
    monkeypatch.setattr(benchmark.grid.measure, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def train(*_: Any, progress: Progress, **__: Any) -> None:
        for seconds in itertools.chain([10.0], itertools.repeat(0.5)):
            now[0] += seconds
            progress.advance()

    monkeypatch.setattr(benchmark.grid.measure, "train", train)
    with opened(tmp_path, "clean", "none") as (grid, planned):
        cell = planned[0].cell
        data = grid.data_of(cell)
        assert steps_per_second(cell, data, grid.device, 20.0) == 2.0
        assert steps_per_second(cell, data, grid.device, 5.0) == 0.1  # time for the first alone


def test_a_step_of_crafting_takes_the_median_of_those_that_were_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four steps of word-wise EM are timed, of 9, 1, 4 and 2 seconds. The lower of the two in the middle counts."""
    now = iter([0, 9, 10, 14, 16])
    monkeypatch.setattr(benchmark.grid.measure, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    with opened(tmp_path, "em-wordwise[restarts=2,steps=60,batch_size=16]", "none") as (grid, planned):
        cell = planned[-1].cell
        costs = crafting_costs(cell, grid.data_of(cell).train, grid.device, deadline=float("inf"))
    assert costs is not None
    assert costs.tolist() == [2.0] * 120


def test_crafting_is_not_timed_if_time_is_up_before_every_kind_of_step(tmp_path: Path) -> None:
    with opened(tmp_path, "mem3[rounds=30,surrogate_steps=30,candidates=2,batch_size=16]", "none") as (grid, planned):
        cell = planned[-1].cell
        assert not cell.attack.is_clean
        assert crafting_costs(cell, grid.data_of(cell).train, grid.device, deadline=0.0) is None


@pytest.mark.usefixtures("costs")
def test_what_records_tell_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, ATTACK, "adv-training") as (grid, planned):
        known = [finished(one, train=70.0, craft=500.0) for one in planned]
        for kind in ("training_costs", "crafting_costs"):
            monkeypatch.setattr(benchmark.grid.estimate, kind, None)  # to call it would fail
        told: list[str] = []
        expected = estimate(grid, planned, "missing", known=known, before_measuring=lambda: told.append("begin"))
    assert not told
    assert expected.training == pytest.approx(70 * len(planned))
    assert expected.crafting == pytest.approx(500)


@pytest.mark.usefixtures("costs")
def test_an_attack_without_steps_takes_the_time_that_a_record_tells(tmp_path: Path) -> None:
    with opened(tmp_path, "text-hint", "none") as (grid, planned):
        known = [finished(one, train=70.0, craft=2.0) for one in planned]
        expected = estimate(grid, planned, "missing", known=known)
    assert (expected.crafting, expected.training) == (2, pytest.approx(140))


@pytest.mark.usefixtures("costs")
def test_an_attack_that_was_never_timed_is_named(tmp_path: Path) -> None:
    expected = estimated(tmp_path, f"{EM},uniform-noise", "none")
    assert str(expected) == "about 2 min: 2 min of crafting, 30 s of training; crafting Uniform noise not counted"


@pytest.mark.usefixtures("costs")
def test_what_fails_while_it_is_timed_stops_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crafting(*_: Any) -> np.ndarray:
        raise VictimDiverged("the surrogate's loss is nan\nin round 1")

    monkeypatch.setattr(benchmark.grid.estimate, "crafting_costs", crafting)
    expected = estimated(tmp_path, EM, "none")
    assert (expected.crafting, expected.training) == (0, pytest.approx(2 * PLAIN))
    attack = ATTACK.replace("mem[k=2,", "em[")
    assert caplog.messages == [
        f"a step of crafting {attack} could not be timed: VictimDiverged: the surrogate's loss is nan"
    ]


@pytest.mark.usefixtures("costs")
def test_an_error_of_one_process_alone_ends_the_timing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait for it in the middle of a step."""

    def fail(*_: Any) -> None:
        raise ValueError("no such image")

    monkeypatch.setattr(benchmark.grid.estimate, "training_costs", fail)
    monkeypatch.setattr(benchmark.grid.estimate.Processes, "failed_alike", lambda self, error: False)
    with pytest.raises(ValueError, match="no such image"):
        estimated(tmp_path, "clean", "none")


@pytest.mark.usefixtures("costs")
def test_work_that_runs_elsewhere_is_not_measured(tmp_path: Path) -> None:
    with opened(tmp_path, EM, "none") as (grid, planned):
        expected = estimate(grid, planned, "missing", measure=False)
    assert str(expected) == (
        "no estimate of the time: the work runs elsewhere, and no record tells how long it takes there"
    )


@pytest.mark.parametrize(("epochs", "is_measured"), [(29, False), (30, True)])
def test_a_training_is_measured_from_sixty_steps_on(epochs: int, is_measured: bool, tmp_path: Path) -> None:
    """Six of them are timed; with a few thousand photos, a victim has about a hundred."""
    with opened(tmp_path, "clean", "none") as (grid, planned):
        cell = planned[0].cell
        longer = replace(cell, recipe=replace(cell.recipe, epochs=epochs))
        costs = training_costs(longer, grid.data_of(cell), grid.device, float("inf"))
    assert (costs is not None) == is_measured
    assert costs is None or len(costs) == 2 * epochs + 1


def test_too_little_work_is_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--dry-run") == 0
    assert "no estimate of the time: the work is too short to be timed" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("costs")
def test_the_grids_line_counts_crafting_and_other_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def fake(grid: Grid, one: PlannedCell) -> Record:
        """Half as fast as expected; the first cell takes so long that another run does the last."""
        for name in (str(grid.poisons.file_of(one.cell, grid.data_of(one.cell).train)), one.key):
            if (task := grid.time_left.waiting.get(name)) is not None:
                with grid.time_left.working(name, 1):
                    now[0] += 2 * task.cost_left
                    grid.time_left.advance()
        if one is planned[0]:
            finished(planned[-1]).save(tmp_path)
        return finished(one)

    monkeypatch.setattr(Grid, "run", fake)
    with opened(tmp_path, EM, "cutout,adv-training") as (grid, planned):
        grid.time_left = estimate(grid, planned, "missing").time_left
        assert grid.time_left.left() == 10 + 100 + 10 + 10 + 40
        run_grid(grid, planned, "missing", Events())
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
    # Clean took 20 s where 10 were expected, while another run did 40: the speed of both together is five times ours.
    # The poison takes what was expected, as far as anybody knows.
    assert lines[0].endswith(f"{(100 + 2 * 20) * 10 / 50:.0f} s left")
    assert [line.split("]")[0] for line in lines] == ["[1/4", "[2/4", "[3/4", "[4/4"]
    assert "left" not in lines[-1]


def test_a_line_says_no_time_where_none_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Grid, "run", lambda grid, one: finished(one))
    with opened(tmp_path, "clean", "cutout,adv-training") as (grid, planned):
        grid.time_left = estimate(grid, planned, "missing", measure=False).time_left
        run_grid(grid, planned, "missing", Events())
    assert " left" not in capsys.readouterr().err


def test_measuring_changes_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(name: str) -> dict[str, Any]:
        assert run(tmp_path / name, defense="adv-training,cutout+random-insertion") == 0
        assert not left_over(tmp_path / name)
        return results(tmp_path / name)

    without = kept("without")
    monkeypatch.setattr(benchmark.grid.measure, "_LARGEST_SHARE", 1e9)
    measured = []
    for name, real in (("training_costs", training_costs), ("crafting_costs", crafting_costs)):

        def watched(*arguments: Any, real: Any = real) -> Any:
            measured.append(real(*arguments))
            return measured[-1]

        monkeypatch.setattr(benchmark.grid.estimate, name, watched)
    assert kept("with") == without
    assert [len(found) for found in measured] == [7, 15, 7, 7]  # 2 steps × 3 epochs, and the last evaluation
    assert all((found >= 0).all() for found in measured)
    records = [json.loads(path.read_text()) for path in (tmp_path / "with").glob("*.json")]
    assert all(record["status"] == "done" for record in records)


@pytest.mark.parametrize("attack", ["em", "mem3", "em-wordwise", "mem-wordwise"])
def test_the_poisons_of_the_tables_are_timed_by_a_few_steps(attack: str, tmp_path: Path) -> None:
    settings = RunSettings(
        attack=attack,
        defense="none",
        dataset=SCENES.replace("40", "130"),  # enough work to be timed
        out=tmp_path,
        device="cpu",
        preset="micro",
        victim="mini",
        surrogate="mini",
    )
    with open_grid(settings) as grid:
        cell, train = grid.cells[-1], grid.data_of(grid.cells[-1]).train
        costs = crafting_costs(cell, train, grid.device, deadline=float("inf"))
    assert costs is not None
    assert len(costs) == cell.attack.attack.progress_steps(train)
    assert (costs > 0).all()


@pytest.mark.parametrize(
    ("crafting", "training", "words"),
    [
        (120.0, 600.0, "about 12 min: 2 min of crafting, 10 min of training"),
        (0.0, 600.0, "about 10 min of training"),
        (0.0, 0.0, "about 5 s"),  # a killed run that had trained to the end and only evaluates
        (0.0, None, "no estimate"),
    ],
)
def test_an_estimate_in_words(crafting: float, training: float | None, words: str) -> None:
    assert str(Estimate(TimeLeft({}), crafting, training, (), 1, crafting + (training or 0))).startswith(words)


@pytest.mark.usefixtures("costs")
def test_workers_share_the_time(tmp_path: Path) -> None:
    with opened(tmp_path, f"clean,{EM}", "adv-training") as (grid, planned):
        by_workers = {count: estimate(grid, planned, "missing", workers=count) for count in (1, 2, 9, None)}
    # While one worker crafts for 100 s, the other trains both victims on clean data. Two others wait for the poison.
    assert {count: found.whole for count, found in by_workers.items()} == {1: 200, 2: 140, 9: 140, None: 200}
    assert str(by_workers[2]) == "about 2 min with 2 workers: 2 min of crafting and 2 min of training between them"
    assert str(by_workers[None]) == "about 3 min for a single worker: 2 min of crafting and 2 min of training"


def test_a_defense_that_leaves_less_than_a_batch_of_one_batch_is_timed(tmp_path: Path) -> None:
    with opened(tmp_path, "clean", "clean-start") as (grid, planned):
        cell = planned[-1].cell
        cell = replace(cell, recipe=replace(cell.recipe, epochs=60))  # long enough to be timed
        costs = training_costs(cell, grid.data_of(cell), grid.device, deadline=float("inf"))
    assert costs is not None
    assert (costs[:-1] > 0).all()


def test_timed_steps_stand_for_their_part_of_the_training() -> None:
    """The first warms up and counts as the second; epochs 4 and 6 of 6 are evaluated."""
    costs = _over_all_steps([9.0, 1.0, 1.0, 2.0, 2.0, 2.0], steps=2, epochs=6, evaluation=0.5, evaluate_every=4)
    assert costs.tolist() == [1, 1, 1, 1, 1, 1, 2, 2, 2.5, 2, 2, 2, 0.5]

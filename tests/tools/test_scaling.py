"""The simulation of many GPUs: worked by hand, and beside the formula of Table 2's hours."""

from pathlib import Path

import pytest

from benchmark.core.errors import UsageError
from benchmark.core.schedule import seconds_until_done
from tests.benchmarks.hours import table2_hours
from tests.tools.scaling import (
    FULL_MATRIX,
    PAGE,
    Stages,
    idle_share,
    longest_chain,
    page,
    parser,
    traffic,
    units,
)

SECONDS = {
    "victim step": 1.0,
    "adversarial victim step": 4.0,  # of three PGD steps, so each takes 1 s
    "surrogate step": 1.0,
    "HotFlip pass": 2.0,
    "crafting round": 6.0,
}
SMALL = ["--attack", "mem3[rounds=2,surrogate_steps=3,hotflip_rounds=1,batch_size=128]", "--epochs", "1"]
SMALL += ["--defense", "cutout,adv-training", "--seeds", "1"]
SIZES = (128, 8, 8)
NOISE = 128 * 3 * 224 * 224


def test_a_small_grid_worked_by_hand() -> None:
    ordered, jobs = units(SMALL, SIZES, SECONDS)
    # Two rounds of three surrogate steps (1 s a row) and a batch of PGD (3 s), the first with HotFlip (2 s).
    poison, plain, adversarial = 128 * (6 * 1 + 2 * 3 + 2), 640, 640 * (1 + 10)
    titles = [unit.planned.cell.defense.choice.spec for unit in ordered]
    assert [job.seconds for job in jobs] == [poison, adversarial, plain, plain, plain]
    assert titles == ["none", "adv-training", "none", "none", "cutout"]
    assert [job.needs is not None for job in jobs] == [False, True, False, True, True]
    # One GPU crafts, the other trains the clean victim and waits; then one trains adversarially, the other the rest.
    assert seconds_until_done(jobs, {}, 2) == poison + adversarial == longest_chain(jobs)
    all_ = poison + adversarial + 3 * plain
    assert idle_share(jobs, 2, poison + adversarial) == pytest.approx(1 - all_ / (2 * (poison + adversarial)))
    assert idle_share(jobs, 1, seconds_until_done(jobs, {}, 1)) == 0


def test_traffic_worked_by_hand() -> None:
    ordered, _ = units([*SMALL, "--epochs", "3"], SIZES, SECONDS)
    weights = 12 * 102_007_137  # CLIP's RN50, in fp32 with two moments
    moved = traffic(ordered, SIZES, nodes=2, checkpoint_every=1)
    assert moved.pop("records") > 4 * 3000  # four cells, a few kilobytes each
    assert moved == {
        "poisons written": NOISE,
        "poisons read, at most": 2 * NOISE,
        "checkpoints of crafting": NOISE + weights,
        "checkpoints of training": 4 * 2 * weights,
    }
    assert traffic(ordered, SIZES, nodes=64, checkpoint_every=0)["poisons read, at most"] == 3 * NOISE
    assert traffic(ordered, SIZES, nodes=64, checkpoint_every=0)["checkpoints of training"] == 0
    assert traffic(ordered, SIZES, nodes=64, checkpoint_every=2)["checkpoints of training"] == 4 * weights


def test_the_hours_of_table_2_are_those_of_the_formula() -> None:
    measured = Stages.read(PAGE).seconds_per_row
    table2 = ["--attack", "mem3", "--defense", "table2,prefix-drop", "--seeds", "1"]
    _, jobs = units(table2, (29_000, 1_014, 1_000), measured)
    # The formula counts no whole batches.
    assert sum(job.seconds for job in jobs) / 3600 == pytest.approx(table2_hours(measured), rel=0.003)


def test_a_card_is_faster_in_all_stages_alike() -> None:
    stages = Stages.read(PAGE)
    card = stages.on(100 / stages.seconds_per_row["victim step"])
    assert card == pytest.approx({stage: seconds / 100 for stage, seconds in stages.seconds_per_row.items()})


@pytest.mark.parametrize("flags", [["--attack", "em-wordwise"], ["--defense", "ueraser"], ["--victim", "ViT-B-32"]])
def test_what_was_not_timed_is_refused(flags: list[str]) -> None:
    all_flags = {"--attack": "mem3", "--defense": "none"} | dict([flags])
    with pytest.raises(UsageError, match="no step was timed"):
        units([word for pair in all_flags.items() for word in pair], SIZES, SECONDS)


def test_the_page_is_what_the_tool_prints() -> None:
    text = Path("docs/scaling.md").read_text("utf-8")
    assert page(FULL_MATRIX, parser().parse_args([])) in text
    assert page([*FULL_MATRIX[:-1], "50"], parser().parse_args([])) in text


def test_flags_of_run_are_not_taken_for_abbreviations() -> None:
    own, of_run = parser().parse_known_args(["--rows", "images", "--gpus", "8"])
    assert (of_run, own.gpus, own.rows_per_second) == (["--rows", "images"], "8", None)

"""Speed of training and evaluating a victim, and what a Table 2 of Flickr30K's size would take."""

from collections import Counter

import pytest
import torch

from benchmark.core.spec import parse_spec
from benchmark.metrics import retrieval
from defenses import DEFENSES, Defense
from tests.benchmarks.clock import Clock
from tests.benchmarks.hours import ADVERSARIAL_STEPS, table2_hours
from tests.benchmarks.machine import Machine
from tests.benchmarks.stages import stage_seconds
from tests.benchmarks.workload import TEST_SCENES, Workload
from victims.evaluate import evaluate
from victims.training import train

pytestmark = pytest.mark.speed


def test_victim_step(clock: Clock, load: Workload) -> None:
    """Two epochs; every run sets the optimiser up anew."""
    clock.model(
        "victim step",
        lambda: train(load.model, load.protected, load.recipe, Defense(), seed=1),
        load,
        rows=load.recipe.epochs * len(load.train),
        flops=load.flops.training(load.length),
    )


def test_stages_of_a_victim_step(clock: Clock, load: Workload) -> None:
    """Where the time of a step goes."""
    seconds = clock.benchmark.pedantic(stage_seconds, (load, 3 if load.slow else 40, 2 if load.slow else 5))
    clock.benchmark.extra_info["profile"] = {"model": load.victim, "batch": load.batch, "seconds": seconds}


def test_adversarial_victim_step(clock: Clock, load: Workload) -> None:
    defense = DEFENSES.build(parse_spec(f"adv-training[steps={ADVERSARIAL_STEPS}]"))
    clock.model(
        "adversarial victim step",
        lambda: train(load.model, load.protected, load.recipe, defense, seed=1),
        load,
        rows=load.recipe.epochs * len(load.train),
        flops=load.flops.training(load.length) + ADVERSARIAL_STEPS * load.flops.pgd_step,
        warm=True,
    )


def test_evaluation(clock: Clock, load: Workload) -> None:
    if load.slow:
        pytest.skip("a minute on a CPU; timed on CUDA")
    encode = load.model.tokenizer.encode
    lengths = Counter(len(encode(caption)) + 2 for own in load.test.captions for caption in own)
    clock.model(
        f"evaluation, 1,000 × {sum(lengths.values()):,}",
        lambda: evaluate(load.model, load.test, seed=1),
        load,
        rows=TEST_SCENES,
        flops=load.flops.image + load.flops.texts(lengths.elements()) / TEST_SCENES,
        batch=TEST_SCENES,
    )


def test_ranks(clock: Clock, machine: Machine) -> None:
    """The metrics alone, from features as wide as RN50's."""
    generator = torch.Generator().manual_seed(0)
    images, captions = (
        torch.nn.functional.normalize(torch.randn(rows, 1024, generator=generator), dim=-1).to(machine.device)
        for rows in (1000, 5000)
    )
    owner = torch.arange(1000, device=machine.device).repeat_interleave(5)
    clock.items("ranks, 1,000 × 5,000", lambda: retrieval(images, captions, owner, seed=1), 6000)


@pytest.mark.parametrize("load", ["RN50"], indirect=True)
def test_table2_of_flickr30k(clock: Clock, load: Workload, seconds_per_row: dict[tuple[str, str], float]) -> None:
    """Extrapolated, not run: arithmetic on the steps timed above; see :func:`hours.table2_hours`."""
    measured = {stage: seconds for (stage, victim), seconds in seconds_per_row.items() if victim == load.victim}
    try:
        hours = clock.benchmark.pedantic(table2_hours, (measured,))
    except KeyError as missing:
        pytest.skip(f"needs the times of this run's other benchmarks; there is none of the {missing}")
    clock.benchmark.extra_info["hours"] = hours

"""Crafting, training and whole runs on a device whose tensors do not mix with the CPU's, as a GPU's do not.

Run by ``test_other_device.py``, in a process of its own.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attacks.crafting
import victims.training
from attacks.base import CraftContext
from attacks.mem import Mem
from benchmark.core.spec import parse_spec
from benchmark.grid.records import load_records
from benchmark.metrics import Retrieval
from defenses import DEFENSES
from defenses.base import Composed
from tests.away import NAME, Away
from tests.equality import plain
from tests.equality.test_algorithm import SETTINGS, InDouble
from tests.grid.grids import ATTACK, results, run
from tests.grid.test_checkpoints import stop_at
from tests.small import make_dataset, noise_of, small_clip
from victims.evaluate import evaluate
from victims.recipe import Recipe
from victims.training import train


def double_clip(device: str, seed: int) -> InDouble:
    return InDouble(small_clip(seed=seed), torch.device(device), "fp32")


def test_the_device_takes_no_tensor_of_another() -> None:
    with Away():
        there = torch.ones(2, 3).to(NAME)
        assert there.device.type == NAME
        assert float((there * 2 + 1).sum()) == 18
        assert type((there + 1).cpu()) is torch.Tensor
        with pytest.raises(RuntimeError, match="aten::cat"):
            torch.cat([there, torch.ones(2, 3)])
        with pytest.raises(RuntimeError, match="aten::mm"):
            there @ torch.ones(3, 2)
        assert there[torch.tensor([1, 0])].device.type == NAME
        with pytest.raises(RuntimeError, match="aten::index"):
            torch.ones(2)[there[0].long()]
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
    with Away(has_double=False), pytest.raises(TypeError, match="no fp64"):
        torch.ones(2).double().to(NAME)


@pytest.mark.parametrize(
    "options",
    [{"k": 0}, {"k": 2}, {"k": 2, "permute_surrogate": True, "restart_every": 1, "per": "row"}],
    ids=["EM", "Algorithm 1", "all options"],
)
def test_poisons_equal_those_of_the_plain_algorithm_on_the_cpu(options: dict[str, Any], tmp_path: Path) -> None:
    data, attack = make_dataset(14, 2), Mem(**{**SETTINGS, "rounds": 2}, **options)
    with Away():
        context = CraftContext(lambda seed: double_clip(NAME, seed), seed=7, workdir=tmp_path)
        poison = attack.craft(data, context)
    delta, trigger, losses = plain.craft(data.by_row() if attack.per == "row" else data, attack, seed=7)
    assert (noise_of(poison) != delta.numpy()).mean() < 1e-4  # gradients that are zero but rounding
    assert np.abs(noise_of(poison)).max() > 6
    assert poison.trigger == trigger
    assert poison.provenance["loss_per_round"] == pytest.approx(losses, rel=1e-6)


@pytest.mark.parametrize(
    "names",
    [["none"], ["adv-training"], ["random-noise"], ["mixup"], ["cutout", "random-deletion"], ["roclip[pool=0.5]"]],
    ids="+".join,
)
def test_victims_equal_those_of_the_cpu(names: list[str]) -> None:
    def trained(device: str) -> tuple[list[float], Retrieval]:
        model = double_clip(device, 1)
        defense = Composed([DEFENSES.build(parse_spec(name)) for name in names])
        log = train(model, data, recipe, defense, seed=1)
        return log.loss, evaluate(model, data, seed=1)

    data, recipe = make_dataset(16, 2), Recipe(epochs=2, batch_size=8)
    with Away():
        loss, scores = trained(NAME)
    expected_loss, expected_scores = trained("cpu")
    assert loss == pytest.approx(expected_loss, rel=1e-9)
    assert scores == expected_scores


def test_a_whole_run_and_one_that_is_stopped_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--device", NAME]
    # Both stops are behind the only checkpoint of their stage.
    grid: dict[str, Any] = {"attack": ATTACK.replace("rounds=3", "rounds=2", 1), "defense": "none", "epochs": 2}
    with Away(has_double=False):
        assert run(tmp_path / "whole", *flags, **grid) == 0
        for place, name, number in ((attacks.crafting, "minimise_noise", 4), (victims.training, "_step_loss", 4)):
            with monkeypatch.context() as patch:
                stop_at(patch, place, name, number)
                assert run(tmp_path / "stopped", *flags, **grid) == 130
        assert run(tmp_path / "stopped", *flags, **grid) == 0
    assert {record.provenance["device"].split()[0] for record in load_records(tmp_path / "whole")} == {NAME}
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")

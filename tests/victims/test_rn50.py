"""The paper's own model at its own resolution, for real: every stage of crafting and a few victim steps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks.base import CraftContext
from attacks.mem import Mem
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS
from defenses import DEFENSES
from tests.small import noise_of
from victims.architecture import Architecture
from victims.recipe import Recipe
from victims.training import train


@pytest.mark.slow
def test_rn50_at_224_crafts_and_trains(tmp_path: Path) -> None:
    splits = DATASETS.build(parse_spec("scenes[train=8,val=4,test=6,objects=30,seed=0]")).load(224, tmp_path)
    cpu, rn50 = torch.device("cpu"), Architecture("RN50")
    attack = Mem(k=3, rounds=1, surrogate_steps=2, pgd_steps=2, hotflip_rounds=1, candidates=2, batch_size=4)
    poison = attack.craft(splits.train, CraftContext(lambda seed: rn50.build(seed, cpu), seed=1, workdir=tmp_path))
    assert noise_of(poison).shape == (8, 3, 224, 224)
    assert 0 < np.abs(noise_of(poison)).max() <= 2
    assert poison.trigger is not None
    assert all(len(trigger.split()) == 3 for trigger in poison.trigger)
    protected = poison.protect(splits.train)
    assert protected.captions[3][0].startswith(poison.trigger[3])
    victim = rn50.build(2, cpu)
    before = victim.model.get_parameter("visual.conv1.weight").clone()
    recipe = replace(Recipe(), epochs=1, batch_size=4, rows="images")
    log = train(victim, protected, recipe, DEFENSES.build(parse_spec("adv-training[steps=1]")), seed=1)
    assert np.isfinite(log.loss).all()
    assert log.changes.pixel > 1
    assert not torch.equal(victim.model.get_parameter("visual.conv1.weight"), before)

"""A victim with weights, scenes, an attack and its operations: all that the timed steps of a model need."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from attacks.base import ATTACKS
from attacks.mem import Mem
from attacks.poison import Poison
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS, CaptionDataset
from benchmark.grid.presets import PRESETS
from tests.benchmarks.flops import Flops
from victims.architecture import Architecture
from victims.clip import Clip
from victims.recipe import Recipe

TEST_SCENES = 1000


@dataclass(frozen=True)
class Workload:
    """One victim's work.

    Attributes:
        victim: its name.
        model: to train.
        frozen: the same model for inference.
        train: scenes with one caption each, so many whole batches.
        test: 1,000 scenes with five captions each; one scene where evaluation is not timed.
        attack: MEM-3 of the victim's preset, with as many surrogate steps a round as there are batches.
        recipe: the victim's, one epoch of all batches after another.
        batch: rows a step.
        slow: a large model on a CPU; it has one batch and nothing to evaluate on.
        rounds: how often a step is timed.
        flops: operations that a row needs.
    """

    victim: str
    model: Clip
    frozen: Clip
    train: CaptionDataset
    test: CaptionDataset
    attack: Mem
    recipe: Recipe
    batch: int
    slow: bool
    rounds: int
    flops: Flops

    @classmethod
    def prepare(cls, victim: str, device: torch.device, cache: Path) -> "Workload":
        """Render scenes and draw weights: ``tiny`` at batch 128; ``RN50`` at 32 on a CPU, 128 on CUDA."""
        cuda = device.type == "cuda"
        slow = victim != "tiny" and not cuda
        batch = 32 if slow else 128
        batches = 8 if cuda else 1 if slow else 4
        preset = PRESETS["tiny" if victim == "tiny" else "paper"]
        architecture = Architecture(victim)
        test = 1 if slow else TEST_SCENES
        scenes = DATASETS.build(parse_spec(f"scenes[train={batch * batches},val=1,test={test},seed=0]"))
        splits = scenes.load(architecture.resolution, cache)
        attack = ATTACKS.build(
            parse_spec(f"mem3[batch_size={batch},surrogate_steps={batches}]"), preset.attack_values("mem3")
        )
        assert isinstance(attack, Mem)
        model = architecture.build(1, device)
        return cls(
            victim,
            model,
            model.for_inference(),
            replace(splits.train, captions=[own[:1] for own in splits.train.captions]),
            splits.test,
            attack,
            replace(preset.recipe, epochs=2, rows="images", batch_size=batch),
            batch,
            slow,
            rounds=5 if cuda else 3,
            flops=Flops(victim),
        )

    def surrogate(self, seed: int) -> Clip:
        """Another model of the victim's kind, for crafting to train."""
        return Architecture(self.victim).build(seed, self.model.device)

    @cached_property
    def protected(self) -> CaptionDataset:
        """The training scenes under noise, as a victim reads them; the noise is random."""
        eps = self.attack.eps
        noise = np.random.default_rng(0).integers(-eps, eps, self.train.images.shape, dtype=np.int8, endpoint=True)
        return Poison(noise, None, eps, self.train.fingerprint).protect(self.train)

    @cached_property
    def images(self) -> torch.Tensor:
        """The first batch on the device: (B, 3, H, W) uint8."""
        return self.train.batch(np.arange(self.batch)).to(self.model.device)

    @cached_property
    def tokens(self) -> torch.Tensor:
        """Its captions: (B, L) int64, L that of the longest."""
        return self._tokens(0).to(self.model.device)

    @cached_property
    def length(self) -> int:
        """Tokens of a batch's longest caption, the mean over the batches."""
        return round(np.mean([self._tokens(start).shape[1] for start in range(0, len(self.train), self.batch)]))

    def _tokens(self, start: int) -> torch.Tensor:
        return self.model.tokenizer([own[0] for own in self.train.captions[start : start + self.batch]])

"""A composition's parts: each in its turn, and each with draws of its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.data import CaptionDataset
from defenses.adv_training import AdvTraining
from defenses.base import Composed, Defense, HookContext, Loss, Rows, Score
from defenses.clip_score_filter import ClipScoreFilter
from defenses.grey import Grey
from tests.defenses.hooks import no_score
from tests.small import make_dataset

AT = HookContext(seed=5, progress=0.5, training=9)


class Part(Defense):
    """Writes its number behind whatever it is given."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.moments: list[HookContext] = []

    def on_dataset(self, train: CaptionDataset, clean: CaptionDataset, at: HookContext) -> CaptionDataset:
        self.moments.append(at)
        return replace(train, name=f"{train.name}{self.number}")

    def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
        self.moments.append(at)
        return 10 * rows + self.number

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        self.moments.append(at)
        return [f"{caption}{self.number}" for caption in captions]

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        self.moments.append(at)
        return 10 * images + self.number

    def on_batch(
        self, images: torch.Tensor, targets: torch.Tensor, at: HookContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.moments.append(at)
        return 10 * images + self.number, 10 * targets + self.number

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        self.moments.append(at)
        return 10 * images + self.number


def no_loss(images: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    raise AssertionError("asked for a loss")


def test_every_hook_takes_what_the_part_before_returned_and_draws_apart_from_it() -> None:
    parts = [Part(1), Part(2), Part(3)]
    whole, data, zero = Composed(parts), make_dataset(4), torch.zeros(1)
    assert whole.on_dataset(data, data, AT).name == f"{data.name}123"
    assert whole.on_rows(np.zeros((1, 2), dtype=np.int64), no_score, AT).tolist() == [[123, 123]]
    assert whole.on_captions(["a dog "], AT) == ["a dog 123"]
    assert whole.on_images(zero, AT).item() == 123
    assert [each.item() for each in whole.on_batch(zero, zero, AT)] == [123, 123]
    assert whole.adversarial(zero, no_loss, AT).item() == 123
    for moments in zip(*(part.moments for part in parts), strict=True):
        for seeds in ([at.seed for at in moments], [at.training for at in moments]):
            assert len(set(seeds)) == 3
    # What lasts is the same for a part in all hooks.
    assert [len({at.training for at in part.moments}) for part in parts] == [1, 1, 1]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_part_is_enough_to_climb_a_loss_or_to_choose_pairs(place: int) -> None:
    def among_others(part: Defense) -> Composed:
        parts: list[Defense] = [Grey(), Grey()]
        parts.insert(place, part)
        return Composed(parts)

    assert [among_others(part).is_adversarial for part in (AdvTraining(), Grey())] == [True, False]
    assert [among_others(part).chooses_pairs for part in (ClipScoreFilter(), Grey())] == [True, False]

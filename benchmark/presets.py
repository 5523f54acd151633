"""Presets: named sets of values in one place. Flags override a preset; a preset overrides a signature's defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from victims.recipe import Recipe


@dataclass(frozen=True)
class Preset:
    """Values for a whole run.

    Attributes:
        name: on the command line.
        summary: one line for ``list presets``.
        dataset: default data set.
        victim: default victim.
        surrogate: default surrogate.
        recipe: the victim's training.
        attack: values for every attack whose constructor has a parameter of that name, so that all share one budget.
        defense: by defense name, values for its constructor.
    """

    name: str
    summary: str
    dataset: str
    victim: str
    surrogate: str
    recipe: Recipe
    attack: Mapping[str, Any] = field(default_factory=dict)
    defense: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="tiny",
            summary="minutes on two CPU cores: 4,000 scenes at 64 px, small CLIP from scratch (the default)",
            dataset="scenes",
            victim="tiny",
            surrogate="tiny",
            recipe=Recipe(
                epochs=14, lr=5e-4, beta2=0.98, weight_decay=0.1, warmup_share=0.1, rows="images", batch_size=128
            ),
            attack={
                "rounds": 6,
                "surrogate_steps": 60,
                "hotflip_rounds": 3,
                "candidates": 4,
                "vocabulary": 200,
                "permute_surrogate": True,
                "lr": 5e-4,
                "weight_decay": 0.1,
            },
            defense={"adv-training": {"steps": 3}},
        ),
        Preset(
            name="paper",
            summary="the paper's scale, for a GPU: RN50 from scratch at 224 px, 32 epochs over all pairs",
            dataset="scenes",
            victim="RN50",
            surrogate="RN50",
            recipe=Recipe(),
        ),
    )
}

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
        attacks: by attack name, values of its own over these, where its budget was chosen for it alone.
        defense: by defense name, values for its constructor.
    """

    name: str
    summary: str
    dataset: str
    victim: str
    surrogate: str
    recipe: Recipe
    attack: Mapping[str, Any] = field(default_factory=dict)
    attacks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    defense: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def attack_values(self, name: str) -> dict[str, Any]:
        """Values for the attack of that name: its own over the shared ones."""
        return {**self.attack, **self.attacks.get(name, {})}


# Of a poison that small models craft in minutes.
_SMALL_ATTACK: Mapping[str, Any] = {
    "rounds": 7,
    "surrogate_steps": 60,
    "pgd_steps": 4,
    "step_size": 2,
    "hotflip_rounds": 3,
    "candidates": 4,
    "vocabulary": 200,
    "permute_surrogate": True,
    # In trial runs (no records) one surrogate throughout left victims four times the recall: the noise of so few steps
    # is what that surrogate has got used to, not what a fresh victim learns first.
    "restart_every": 1,
    "lr": 5e-4,
    "weight_decay": 0.1,
}
# From scratch and at full strength from the first step, adversarial training learned nothing at this scale, not even on
# clean data (trial runs, no records); after some plain epochs and with a growing radius it does.
_SMALL_DEFENSE: Mapping[str, Mapping[str, Any]] = {"adv-training": {"steps": 3, "start": 0.3, "ramp": 0.4}}

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
                epochs=12, lr=5e-4, beta2=0.98, weight_decay=0.1, warmup_share=0.1, rows="images", batch_size=128
            ),
            attack=_SMALL_ATTACK,
            defense=_SMALL_DEFENSE,
        ),
        Preset(
            name="micro",
            summary="a few minutes on two CPU cores: used by 'check'; 2,000 scenes of 60 objects at 32 px",
            dataset="scenes[train=2000,val=200,test=1000,objects=60]",
            victim="micro",
            surrogate="micro",
            # fp32 everywhere, so that one reference serves every machine; only the last epoch is looked at.
            recipe=Recipe(
                epochs=10,
                lr=1e-3,
                beta2=0.98,
                weight_decay=0.1,
                # With a short warm-up, seeds differed more in when they leave the plateau of the ground's colour.
                warmup_share=0.5,
                rows="images",
                batch_size=64,
                evaluate_every=10,
                precision="fp32",
            ),
            attack={**_SMALL_ATTACK, "vocabulary": 60, "batch_size": 64, "lr": 1e-3},
            defense=_SMALL_DEFENSE,
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

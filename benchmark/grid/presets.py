"""Presets: named sets of values in one place. Flags override a preset; a preset overrides a signature's defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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


# Muon needs half the steps of AdamW for the same recall; see results/regime/learning.
_MUON: Mapping[str, Any] = {"optimizer": "muon", "matrix_lr": 0.02, "lr": 1e-3, "weight_decay": 0.1}
# Of a poison that small models craft in minutes.
_SMALL_ATTACK: Mapping[str, Any] = {
    **_MUON,
    "rounds": 5,
    "surrogate_steps": 62,
    "pgd_steps": 4,
    "step_size": 2,
    "hotflip_rounds": 3,
    "candidates": 4,
    "vocabulary": 200,
    "permute_surrogate": True,
    "restart_every": 1,
    "batch_size": 128,
}
# EM needs many small steps, and permuted images, so that surrogates can match captions to nothing but the noise. It
# also needs several surrogates, one after the other, because a fresh victim does not learn noise that only a single
# long-trained surrogate is used to.
_SMALL_EM: Mapping[str, Any] = {
    "rounds": 80,
    "surrogate_steps": 31,
    "pgd_steps": 1,
    "step_size": 1,
    "permute_images": True,
    "restart_every": 8,
}
# In sem, half of the batches pass the defense, which is the default share; in the papers, and here in em-aug and rem,
# all do. The inner maximisation of rem costs three more passes at every step, so rem has only as many rounds as noise
# needs to reach its bound.
_SMALL_THROUGH: Mapping[str, Mapping[str, Any]] = {"em-aug": {"share": 1.0}, "rem": {"rounds": 8, "share": 1.0}}
# The paper's: against a linear model steps cost little.
_PIL: Mapping[str, Any] = {"pgd_steps": 30, "step_size": 0.8, "epochs": 30}
# As long as a victim trains, so that the surrogate reads captions as a victim on clean data does.
_SMALL_TAP: Mapping[str, Any] = {"surrogate_steps": 155, "pgd_steps": 30, "step_size": 1}
# A higher learning rate than the paper's, as there are only hundreds of steps.
_SMALL_T2UE: Mapping[str, Any] = {"surrogate_steps": 155, "steps": 400, "generator_lr": 1e-3, "channels": 32}
# The classes' own defaults. They are repeated here because submissions have to keep to what a preset sets.
_TINY_WORDWISE: Mapping[str, Any] = {"restarts": 8, "steps": 93}
_SMALL_RECIPE = Recipe(beta2=0.98, warmup_share=0.1, rows="images", **_MUON)
# From the first step on. At this radius a clean victim of preset micro keeps most of its recall; see results/reference.
_SMALL_DEFENSE: Mapping[str, Mapping[str, Any]] = {
    "adv-training": {"eps": 2, "steps": 3},
    "roclip": {"pool": 0.25},
}

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="tiny",
            summary="minutes on two CPU cores: 4,000 scenes at 64 px, small CLIP from scratch (the default)",
            dataset="scenes",
            victim="tiny",
            surrogate="tiny",
            recipe=replace(_SMALL_RECIPE, epochs=5, batch_size=128),
            attack=_SMALL_ATTACK,
            attacks={
                "em": _SMALL_EM,
                **_SMALL_THROUGH,
                "pil": _PIL,
                "em-wordwise": _TINY_WORDWISE,
                "mem-wordwise": _TINY_WORDWISE,
                "em-keyed": _TINY_WORDWISE,
                "tap": _SMALL_TAP,
                "t2ue": _SMALL_T2UE,
            },
            defense=_SMALL_DEFENSE,
        ),
        Preset(
            name="micro",
            summary="a few minutes on two CPU cores: used by 'check'; 2,000 scenes of 150 objects at 32 px",
            dataset="scenes[train=2000,val=200,test=1000,objects=150]",
            victim="micro",
            surrogate="micro",
            # fp32 everywhere, so that one reference serves every machine; only the last epoch is looked at.
            recipe=replace(_SMALL_RECIPE, epochs=6, batch_size=64, evaluate_every=6, precision="fp32"),
            attack={**_SMALL_ATTACK, "vocabulary": 60, "batch_size": 64},
            attacks={
                "em": _SMALL_EM,
                **_SMALL_THROUGH,
                "pil": _PIL,
                "em-wordwise": {"steps": 62},
                "mem-wordwise": {"steps": 62},
                "em-keyed": {"steps": 62},
                "tap": {**_SMALL_TAP, "surrogate_steps": 186},
                "t2ue": {**_SMALL_T2UE, "surrogate_steps": 186},
            },
            defense=_SMALL_DEFENSE,
        ),
        Preset(
            name="paper",
            summary="the paper's scale, for a GPU: RN50 from scratch at 224 px, 32 epochs over all pairs",
            dataset="scenes",
            victim="RN50",
            surrogate="RN50",
            recipe=Recipe(),
            attacks={
                "em-aug": {"share": 1.0},
                "sem": {"share": 1.0, "trained_through": "crop-flip+adv-training[eps=4,steps=3]"},
                "rem": {"share": 1.0},
            },
        ),
    )
}

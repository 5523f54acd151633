"""Hours that a Table 2 of Flickr30K's size takes, extrapolated from the times of single steps."""

from collections.abc import Mapping

from attacks.base import ATTACKS
from attacks.mem import Mem
from benchmark.core.spec import parse_spec
from benchmark.grid.presets import PRESETS
from defenses.adv_training import AdvTraining

IMAGES = 29_000
PAIRS = 145_000
VICTIMS = 11
"""Clean, MEM-3 undefended, and MEM-3 under each of nine defenses."""
ADVERSARIAL_STEPS = 3
"""PGD steps of the adversarial victim step that is timed."""


def table2_hours(seconds_per_row: Mapping[str, float]) -> float:
    """One MEM-3 poison of 29,000 images and eleven victims of 32 epochs × 145,000 rows, by preset ``paper``.

    One of the victims is adversarially trained with that defense's default number of PGD steps, the ten others take
    plain steps. Loading, caption augmentation and evaluation are left out.

    Args:
        seconds_per_row: by stage, for RN50 at 224 px.

    Raises:
        KeyError: a stage is missing.
    """
    preset = PRESETS["paper"]
    attack = ATTACKS.build(parse_spec("mem3"), preset.attack_values("mem3"))
    assert isinstance(attack, Mem)
    surrogate, hotflip = seconds_per_row["surrogate step"], seconds_per_row["HotFlip pass"]
    flipping = seconds_per_row["crafting round"] - surrogate
    flipped = min(attack.rounds, attack.hotflip_rounds)
    crafting = (
        attack.rounds * attack.surrogate_steps * attack.batch_size * surrogate
        + IMAGES * flipped * flipping
        + IMAGES * (attack.rounds - flipped) * (flipping - hotflip)
    )
    plain = seconds_per_row["victim step"]
    pgd_step = (seconds_per_row["adversarial victim step"] - plain) / ADVERSARIAL_STEPS
    rows = preset.recipe.epochs * PAIRS
    training = rows * (VICTIMS * plain + AdvTraining().steps * pgd_step)
    return (crafting + training) / 3600

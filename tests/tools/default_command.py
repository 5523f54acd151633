"""Operations that the README's default command needs, stage by stage: ``python -m tests.tools.default_command``.

Divided by the peak that the speed suite measures, they are the least time in which a machine can multiply so much.
Counted as in :mod:`tests.benchmarks.flops`: convolutions and matrix products alone.
"""

import numpy as np
from tabulate import tabulate

from attacks.base import ATTACKS
from attacks.mem import Mem
from benchmark.core.cache_dir import cache_folder
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS, CaptionDataset
from benchmark.grid.presets import PRESETS
from defenses import DEFENSES
from defenses.adv_training import AdvTraining
from tests.benchmarks.flops import Flops
from victims.architecture import Architecture
from victims.tokens import Tokenizer

_BATCHES = 200  # to find the mean length of a batch's longest caption


def operations() -> dict[str, float]:
    """Floating-point operations by stage, for the clean, the undefended and all defended victims of preset ``tiny``."""
    preset = PRESETS["tiny"]
    recipe, flops = preset.recipe, Flops(preset.victim)
    attack = ATTACKS.build(parse_spec("mem3"), preset.attack_values("mem3"))
    adversarial = DEFENSES.build(parse_spec("adv-training"), preset.defense["adv-training"])
    assert isinstance(attack, Mem)
    assert isinstance(adversarial, AdvTraining)
    source = DATASETS.build(parse_spec(preset.dataset)).for_seed(1)
    splits = source.load(Architecture(preset.victim).resolution, cache_folder())
    images = len(splits.train)

    def evaluation(split: CaptionDataset) -> float:
        return len(split) * flops.image + flops.texts(lengths(split))

    length = longest_of_batch(splits.train, recipe.batch_size) + attack.k
    rows = images // recipe.batch_size * recipe.batch_size * recipe.epochs
    victims = 2 + len(DEFENSES.group("standard"))  # the clean and the undefended one
    return {
        f"{victims} victims' own steps": victims * rows * flops.training(length),
        "adversarial steps": (1 - adversarial.start) * rows * adversarial.steps * flops.pgd_step,
        "evaluation after every epoch": victims * recipe.epochs * (evaluation(splits.val) + evaluation(splits.test)),
        "surrogates' steps": attack.rounds * attack.surrogate_steps * attack.batch_size * flops.training(length),
        "HotFlip": attack.hotflip_rounds
        * images
        * (flops.image + flops.hotflip_pass(length, attack.k, attack.candidates)),
        "PGD and a round's last loss": attack.rounds
        * images
        * (attack.pgd_steps * (flops.pgd_step + flops.text(length)) + flops.image + flops.text(length)),
    }


def lengths(split: CaptionDataset) -> list[int]:
    """Tokens of every caption, start and end included."""
    tokenizer = Tokenizer()
    return [len(tokenizer.encode(caption)) + 2 for own in split.captions for caption in own]


def longest_of_batch(train: CaptionDataset, batch: int) -> int:
    """Tokens of the longest caption of a batch, its mean over random batches."""
    drawn = np.random.default_rng(0).choice(lengths(train), (_BATCHES, batch))
    return round(float(drawn.max(axis=1).mean()))


if __name__ == "__main__":
    found = operations()
    found["all"] = sum(found.values())
    rows = [(stage, f"{count / 1e12:.1f}", f"{count / found['all']:.0%}") for stage, count in found.items()]
    print(
        tabulate(
            rows,
            headers=("stage", "TFLOP", "share"),
            tablefmt="pipe",
            disable_numparse=True,
            colalign=("left", "right", "right"),
        )
    )

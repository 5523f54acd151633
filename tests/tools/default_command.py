"""Operations that the README's default command needs, stage by stage: ``python -m tests.tools.default_command``.

Divided by the peak that the speed suite measures, they are the least time in which a machine can multiply so much.
Counted as in :mod:`tests.benchmarks.flops`: convolutions and matrix products alone.
"""

from collections.abc import Iterable

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
from victims.clip import Architecture
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
    tokenizer, images = Tokenizer(), len(splits.train)

    def lengths(captions: Iterable[str]) -> list[int]:
        return [len(tokenizer.encode(caption)) + 2 for caption in captions]

    def evaluation(split: CaptionDataset) -> float:
        return len(split) * flops.image + flops.texts(lengths(caption for own in split.captions for caption in own))

    every = lengths(caption for own in splits.train.captions for caption in own)
    batches = np.random.default_rng(0).choice(every, (_BATCHES, recipe.batch_size))
    length = round(float(batches.max(axis=1).mean())) + attack.k
    rows = images // recipe.batch_size * recipe.batch_size * recipe.epochs
    victims = 1 + len(DEFENSES.group("all"))  # the clean one; no defense is one of them
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

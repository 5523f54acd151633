"""Operations that the README's default command needs, stage by stage: ``python -m tests.tools.default_command``.

Beside them stand those of crafting word-wise EM, which is to cost no more than MEM-3. Counted as in
:mod:`tests.benchmarks.flops`: convolutions and matrix products alone, those of Muon among them. Divided by the peak
that the speed suite measures, they are the least time in which a machine can multiply so much.
"""

import numpy as np
from tabulate import tabulate

from attacks.base import ATTACKS
from attacks.em_wordwise import WordwiseEm
from attacks.mem import Mem
from benchmark.core.cache_dir import cache_folder
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS, CaptionDataset, Splits
from benchmark.grid.presets import PRESETS
from benchmark.grid.protected_sample import protected_sample
from defenses import DEFENSES
from defenses.adv_training import AdvTraining
from tests.benchmarks.flops import Flops, optimizer_step
from victims.architecture import Architecture
from victims.tokens import Tokenizer

_BATCHES = 200  # to find the mean length of a batch's longest caption
_PRESET = PRESETS["tiny"]


def training(splits: Splits, flops: Flops) -> dict[str, float]:
    """Floating-point operations by stage, for the clean, the undefended and all defended victims of preset ``tiny``."""
    adversarial = DEFENSES.build(parse_spec("adv-training"), _PRESET.defense["adv-training"])
    assert isinstance(adversarial, AdvTraining)

    def evaluation(split: CaptionDataset) -> float:
        return len(split) * flops.image + flops.texts(lengths(split))

    recipe = _PRESET.recipe
    length = longest_of_batch(splits.train, recipe.batch_size) + _mem3().k
    steps = len(splits.train) // recipe.batch_size * recipe.epochs
    rows = steps * recipe.batch_size
    victims = 2 + len(DEFENSES.group("standard"))  # the clean and the undefended one
    sample = protected_sample(splits.train, recipe, len(splits.val), seed=1)
    measured = [split for split in (splits.val, splits.test, sample) if split is not None]
    return {
        f"{victims} victims' own steps": victims * rows * flops.training(length),
        "victims' optimizers": victims * steps * optimizer_step(_PRESET.victim, recipe),
        "adversarial steps": (1 - adversarial.start) * rows * adversarial.steps * flops.pgd_step,
        "evaluation after every epoch": victims * recipe.epochs * sum(map(evaluation, measured)),
    }


def crafting_mem3(train: CaptionDataset, flops: Flops) -> dict[str, float]:
    """Those of MEM-3's poison."""
    attack, images = _mem3(), len(train)
    steps = attack.rounds * attack.surrogate_steps
    length = longest_of_batch(train, attack.batch_size) + attack.k
    return {
        "surrogates' steps": steps * attack.batch_size * flops.training(length),
        "surrogates' optimizers": steps * optimizer_step(_PRESET.surrogate, attack),
        "HotFlip": attack.hotflip_rounds
        * images
        * (flops.image + flops.hotflip_pass(length, attack.k, attack.candidates)),
        "PGD and a round's last loss": attack.rounds
        * images
        * (attack.pgd_steps * (flops.pgd_step + flops.text(length)) + flops.image + flops.text(length)),
    }


def crafting_wordwise(train: CaptionDataset, flops: Flops) -> float:
    """Those of word-wise EM's, whose every step trains a surrogate and the patterns."""
    attack = ATTACKS.build(parse_spec("em-wordwise"), _PRESET.attack_values("em-wordwise"))
    assert isinstance(attack, WordwiseEm)
    length = longest_of_batch(train, attack.batch_size)
    step = attack.batch_size * flops.training(length, pixels=True) + optimizer_step(_PRESET.surrogate, attack)
    return attack.restarts * attack.steps * step


def _mem3() -> Mem:
    attack = ATTACKS.build(parse_spec("mem3"), _PRESET.attack_values("mem3"))
    assert isinstance(attack, Mem)
    return attack


def lengths(split: CaptionDataset) -> list[int]:
    """Tokens of every caption, start and end included."""
    tokenizer = Tokenizer()
    return [len(tokenizer.encode(caption)) + 2 for own in split.captions for caption in own]


def longest_of_batch(train: CaptionDataset, batch: int) -> int:
    """Tokens of the longest caption of a batch, its mean over random batches."""
    drawn = np.random.default_rng(0).choice(lengths(train), (_BATCHES, batch))
    return round(float(drawn.max(axis=1).mean()))


def main() -> None:
    """Print both."""
    source = DATASETS.build(parse_spec(_PRESET.dataset)).for_seed(1)
    splits = source.load(Architecture(_PRESET.victim).resolution, cache_folder())
    flops = Flops(_PRESET.victim)
    crafting = crafting_mem3(splits.train, flops)
    found = training(splits, flops) | crafting
    found["all"] = sum(found.values())
    rows = [(stage, f"{count / 1e12:.1f}", f"{count / found['all']:.0%}") for stage, count in found.items()]
    alignment = ("left", "right", "right")
    headers = ("stage", "TFLOP", "share")
    print(tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True, colalign=alignment))
    mem3, wordwise = sum(crafting.values()), crafting_wordwise(splits.train, flops)
    print(f"\nCrafting: MEM-3 {mem3 / 1e12:.1f} TFLOP, word-wise EM {wordwise / 1e12:.1f}, {wordwise / mem3:.2f} times")


if __name__ == "__main__":
    main()

"""Gates: what must hold before a cell of the matrix counts, judged from records alone."""

from collections.abc import Iterable
from itertools import pairwise
from math import log
from statistics import fmean
from typing import Any, Literal

from benchmark.core.spec import parse_spec
from benchmark.grid.records import ResolvedSpec
from benchmark.tables.iqm import clearly, difference, mean, over_seeds
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, params_with_inner
from benchmark.tables.shares import MEANINGFUL, kept, paired_runs

Verdict = Literal["holds", "fails", "not shown", "–"]
"""``not shown``: the records that would show it are missing; ``–``: the gate does not concern this attack."""

UNIFORM_NOISE = "uniform-noise"
MOST_LOSS = 0.75  # of ln B, in the last epoch of a clean victim
LEARN = f"a clean victim's last loss at most {MOST_LOSS:g} ln B, and at least {MEANINGFUL} % of the recall kept"


def stronger_than_noise(block: Block, attack: ResolvedSpec) -> Verdict:
    """Whether an attack leaves clearly less recall than uniform random noise of the same ε, both without a defense.

    Without a defense, because a defense that undoes an attack makes it as weak as noise, which is a result and no
    fault of the cell. Clearly: the interval of the paired difference (:func:`benchmark.tables.iqm.difference`) lies
    below zero, and so does that of Student's t over seeds, as a bootstrap of two seeds is a little too narrow. With one
    seed queries alone decide.
    """
    eps = _eps_of_noise(block, attack)
    if is_uniform_noise(attack) or eps is None:
        return "–"
    rivals = [other for other in block.attacks if is_uniform_noise(other) and _eps_of_noise(block, other) == eps]
    order = _order(block, attack, rivals[0]) if rivals else None
    if order is None:
        return "not shown"
    return "holds" if order < 0 else "fails"


def stronger_with_eps(block: Block, attack: ResolvedSpec) -> Verdict:
    """Whether an attack gets no weaker as ε grows, its other parameters being the same, without a defense.

    If any larger ε clearly leaves more recall than the next smaller one, the gate fails for that attack at every ε.
    """
    if _eps(attack) is None:
        return "–"
    clean = block.of(CLEAN, UNDEFENDED)
    family = [one for one in by_eps(block, attack).values() if paired_runs(block.of(one.spec, UNDEFENDED), clean)]
    steps = [_order(block, larger, smaller) for smaller, larger in pairwise(family)]
    known = [step for step in steps if step is not None]
    if any(step > 0 for step in known):
        return "fails"
    return "holds" if known else "not shown"


def by_eps(block: Block, attack: ResolvedSpec) -> dict[float, ResolvedSpec]:
    """An attack at every ε that it ran with, its other parameters being the same, the smallest ε first."""
    alike = [other for other in block.attacks if _without_eps(other) == _without_eps(attack)]
    # The last of one ε stays: of two spellings of it, the one with more undefended victims.
    alike.sort(key=lambda one: (_eps(one) or 0, len(block.of(one.spec, UNDEFENDED))))
    return {eps: one for one in alike if (eps := _eps(one)) is not None}


def loss_left(block: Block, defense: str) -> float | None:
    """Training loss of clean victims under a defense in the last epoch, as a share of ln B; mean over seeds.

    ln B is the loss of a victim that cannot tell the B pairs of a batch apart, if it descends CLIP's loss. ``None``
    where none is done.
    """
    shares = [
        record.loss[-1] / log(record.recipe["batch_size"])
        for record in block.of(CLEAN, defense)
        if record.status == "done" and record.loss
    ]
    return fmean(shares) if shares else None


def learned(block: Block, defense: str) -> Verdict:
    """Whether clean victims under a defense learn: their loss is at most :data:`MOST_LOSS` of ln B.

    A defense may have a loss of its own, which can be low in a victim that has learned nothing of use. So they must
    keep :data:`~benchmark.tables.shares.MEANINGFUL` percent of the clean, undefended recall as well.
    """
    share = loss_left(block, defense)
    left = kept(block.of(CLEAN, defense), block.of(CLEAN, UNDEFENDED)).values()
    if (share is not None and share > MOST_LOSS) or (left and fmean(left) < MEANINGFUL):
        return "fails"
    return "not shown" if share is None else "holds"


def learning(block: Block, defense: str) -> str:
    """What :func:`learned` judges by, in words; two digits tell 19.97 from the 20 that it asks for."""
    share, left = loss_left(block, defense), kept(block.of(CLEAN, defense), block.of(CLEAN, UNDEFENDED)).values()
    parts = [f"{share:.2f} ln B"] if share is not None else []
    return " and ".join([*parts, *([f"{fmean(left):.2f} %"] if left else [])])


def kept_undefended(block: Block, attack: str) -> str:
    """The recall that an attack leaves without a defense, in percent of clean, mean over seeds, in words.

    The text may be "not run without a defense": the gate of ε can fail for an attack that has no undefended victim,
    because of the same attack at other ε.
    """
    left = kept(block.of(attack, UNDEFENDED), block.of(CLEAN, UNDEFENDED)).values()
    return f"{fmean(left):.1f} %" if left else "not run without a defense"


def is_uniform_noise(attack: ResolvedSpec) -> bool:
    """Whether it is the noise that others are compared with, which competes with none."""
    return parse_spec(attack.spec).name == UNIFORM_NOISE


def _eps_of_noise(block: Block, attack: ResolvedSpec) -> Any:
    """The bound on the noise; ``None`` without noise."""
    poisons: Iterable[Any] = (record.poison for record in block.of(attack.spec) if record.poison.get("psnr"))
    return next((poison.get("eps") for poison in poisons), None)


def _eps(attack: ResolvedSpec) -> float | None:
    """The ε of an attack, or of the one that it crafts through a defense; a plug-in may use the name otherwise."""
    eps = params_with_inner(attack).get("eps")
    return eps if isinstance(eps, int | float) else None


def _without_eps(attack: ResolvedSpec) -> tuple[str, dict[str, Any]]:
    params = params_with_inner(attack)
    # The same attack through the same defense may have an alias.
    name = parse_spec(attack.spec).name if params is attack.params else ""
    return name, {key: value for key, value in params.items() if key != "eps"}


def _order(block: Block, first: ResolvedSpec, second: ResolvedSpec) -> int | None:
    """Whether the first clearly keeps less (−1) or more (1) than the second; ``None``: they cannot be compared."""
    clean = block.of(CLEAN, UNDEFENDED)
    ours, theirs = ({UNDEFENDED: paired_runs(block.of(one.spec, UNDEFENDED), clean)} for one in (first, second))
    names = (first.spec, second.spec)
    found = difference(ours, theirs, names, average=mean)
    return None if found is None else clearly(found, over_seeds(dict(zip(names, (ours, theirs), strict=True))), names)

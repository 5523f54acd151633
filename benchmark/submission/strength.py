"""Whether what was submitted counts: the gates of the matrix, and clean victims that have learned something."""

from collections.abc import Iterator
from statistics import fmean

from benchmark.submission.rules import Rules
from benchmark.tables.chance import near_chance
from benchmark.tables.entries import Kind
from benchmark.tables.gates import LEARN, UNIFORM_NOISE, learned, stronger_than_noise
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block
from benchmark.tables.shares import kept


def strength_problems(block: Block, kind: Kind, spec: str, rules: Rules) -> list[str]:
    """What keeps a submission from being ranked, a line each.

    Args:
        block: its records.
        kind: what is submitted.
        spec: its name and parameters, as in its records.
        rules: what the attacks that a defense meets have to take.
    """
    problems = []
    if sentence := near_chance(block.of(CLEAN, UNDEFENDED)):
        problems.append(sentence)
    for defense in sorted({record.defense.spec for record in block.records}):
        if learned(block, defense) != "holds":
            victims = "undefended clean victims" if defense == UNDEFENDED else f"clean victims under {defense}"
            problems.append(f"{victims} do not learn; asked for is {LEARN}")
    if kind == "defense":
        return [*problems, *_weak_attacks(block, rules)]
    for attack in [one for one in block.attacks if one.spec == spec]:
        verdict = stronger_than_noise(block, attack)
        eps = max((record.poison.get("eps", 0) for record in block.of(spec)), default=0)
        if verdict == "fails":
            problems.append(
                f"{spec} is not clearly stronger than {UNIFORM_NOISE} of the same ε = {eps}/255, undefended"
            )
        if verdict == "not shown":
            problems.append(f"nothing shows that {spec} is stronger than {UNIFORM_NOISE} of the same ε = {eps}/255")
    return problems


def _weak_attacks(block: Block, rules: Rules) -> Iterator[str]:
    """A line for each attack that takes less recall from undefended victims than the rules ask for."""
    for attack, least in rules.attacks.items():
        left = kept(block.of(attack, UNDEFENDED), block.of(CLEAN, UNDEFENDED)).values()
        if left and 100 - fmean(left) < least:
            yield f"{attack} takes {100 - fmean(left):.0f} % of the recall undefended; asked for are {least:g} %"

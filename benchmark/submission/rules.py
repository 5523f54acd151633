"""The rules of the leaderboard, in one place; docs/submitting.md says them in words."""

from dataclasses import dataclass

from benchmark.tables.entries import Kind
from benchmark.tables.selection import CLEAN, UNDEFENDED


@dataclass(frozen=True)
class Rules:
    """What every submission has to have run, and how strong it may be.

    Attributes:
        version: raised with every change, and kept in entries: those of different versions are not comparable.
        preset: data, victim, surrogate and budgets.
        least_seeds: the seeds are 1, 2, 3 and so on, so that nobody chooses them; at least so many.
        most_seeds: each costs the check a data set of its own.
        eps: largest bound on noise, in 1/255.
        trigger_tokens: most tokens that a trigger adds to a caption, of the 75 that CLIP reads; MEM's words are one
            each. No more words than rare-prefix drops.
        defenses: what an attack meets. Beside the group, two that know an attack: rare-prefix drops a trigger in front
            of captions, whatever its length, tile-average noise that repeats.
        attacks: what a defense meets: noise, noise through augmentations, a trigger, one targeted, one tied to words.
    """

    version: int = 4
    preset: str = "tiny"
    least_seeds: int = 3
    most_seeds: int = 12
    eps: int = 8
    trigger_tokens: int = 8
    defenses: str = "standard,rare-prefix,tile-average"
    attacks: str = "em,em-aug,mem3,tap,em-wordwise"

    def settings(self, kind: Kind, spec: str) -> tuple[str, str]:
        """``--attack`` and ``--defense`` of the run that a submission holds; clean data meet every defense."""
        if kind == "attack":
            return f"{CLEAN},{spec}", self.defenses
        return f"{CLEAN},{self.attacks}", f"{UNDEFENDED},{spec}"


RULES = Rules()
